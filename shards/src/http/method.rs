//! The request methods that routes may have, and small sets of them.

use std::fmt;

/// A method a route can be registered for (HTTP-12). The order is that of the `allow` header (HTTP-54).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// `GET`
    Get,
    /// `HEAD`
    Head,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `DELETE`
    Delete,
    /// `PATCH`
    Patch,
    /// `OPTIONS`
    Options,
}

impl Method {
    /// Every method, in the order of the `allow` header.
    pub const ALL: [Method; 7] =
        [Method::Get, Method::Head, Method::Post, Method::Put, Method::Delete, Method::Patch, Method::Options];

    /// The method of a request line. Methods are case-sensitive on the wire.
    pub fn from_wire(name: &str) -> Option<Method> {
        Method::ALL.into_iter().find(|method| method.as_str() == name)
    }

    /// The `http_method` of a trigger, matched case-insensitively (HTTP-11).
    pub fn from_config(name: &str) -> Option<Method> {
        Method::ALL.into_iter().find(|method| method.as_str().eq_ignore_ascii_case(name))
    }

    /// The upper-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Patch => "PATCH",
            Method::Options => "OPTIONS",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of methods; prints as the value of an `allow` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MethodSet(u8);

impl MethodSet {
    /// The set without members.
    pub const EMPTY: MethodSet = MethodSet(0);

    /// Adds one method.
    pub fn insert(&mut self, method: Method) {
        self.0 |= 1 << method as u8;
    }

    /// Whether `method` is a member.
    pub fn contains(self, method: Method) -> bool {
        self.0 & (1 << method as u8) != 0
    }

    /// The members of both.
    #[must_use]
    pub fn union(self, other: MethodSet) -> MethodSet {
        MethodSet(self.0 | other.0)
    }

    /// Whether there is no member.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What an `allow` header lists for routes of these methods: `GET` brings `HEAD` along (HTTP-54).
    #[must_use]
    pub fn allowed(mut self) -> MethodSet {
        if self.contains(Method::Get) {
            self.insert(Method::Head);
        }
        self
    }
}

impl fmt::Display for MethodSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for method in Method::ALL.into_iter().filter(|method| self.contains(*method)) {
            write!(f, "{separator}{method}")?;
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allow_lists_in_one_order_and_adds_head() {
        // HTTP-54
        let mut set = MethodSet::EMPTY;
        for method in [Method::Patch, Method::Options, Method::Get, Method::Delete] {
            set.insert(method);
        }
        assert_eq!(set.allowed().to_string(), "GET,HEAD,DELETE,PATCH,OPTIONS");
        assert_eq!(MethodSet::EMPTY.allowed().to_string(), "");
    }

    #[test]
    fn wire_names_are_exact_and_configured_names_are_not() {
        assert_eq!(Method::from_wire("get"), None);
        assert_eq!(Method::from_config("get"), Some(Method::Get));
        assert_eq!(Method::from_config("TRACE"), None); // HTTP-12
    }
}
