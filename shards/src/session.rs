//! What a connection of a guarded listener may do (PROTO-120 to PROTO-128).
//!
//! Pure: made once when the connection is let in, never changed. Data shards ask it about calls and registrations,
//! control about what discovery may show.

use crate::registry::DEFAULT_NAMESPACE;
use crate::settings::{AccessRules, FunctionFilter, MetadataRule};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};

/// Functions every session may call (PROTO-122).
const INFRASTRUCTURE: [&str; 10] = [
    "engine::channels::create",
    "engine::workers::register",
    "engine::log::info",
    "engine::log::warn",
    "engine::log::error",
    "engine::log::debug",
    "engine::log::trace",
    "engine::baggage::get",
    "engine::baggage::set",
    "engine::baggage::get_all",
];

/// What an authentication function answers (PROTO-121).
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Granted {
    allowed_functions: HashSet<String>,
    forbidden_functions: HashSet<String>,
    namespaces: BTreeMap<String, Vec<String>>,
    allowed_trigger_types: Option<HashSet<String>>,
    allow_trigger_type_registration: bool,
    allow_function_registration: bool,
    function_registration_prefix: Option<String>,
    context: Value,
}

impl Default for Granted {
    fn default() -> Self {
        Granted {
            allowed_functions: HashSet::new(),
            forbidden_functions: HashSet::new(),
            namespaces: BTreeMap::new(),
            allowed_trigger_types: None,
            allow_trigger_type_registration: false,
            allow_function_registration: true,
            function_registration_prefix: None,
            context: Value::Object(serde_json::Map::new()),
        }
    }
}

/// What a connection may do.
#[derive(Debug)]
pub struct Session {
    granted: Granted,
    /// `None` = the listener has no access rules, only a middleware.
    rules: Option<AccessRules>,
    middleware_function_id: Option<String>,
    context: Vec<u8>,
}

/// Whether a call is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permission {
    /// It is.
    Allowed,
    /// It is not; what to tell the caller.
    Denied(String),
    /// It depends on the metadata the function was registered with.
    ByMetadata,
}

impl Session {
    /// A session of a listener on which nobody has to prove who they are.
    pub fn open(rules: Option<&AccessRules>, middleware_function_id: Option<&str>) -> Session {
        let granted = Granted { allow_trigger_type_registration: true, ..Granted::default() };
        Session::with(granted, rules, middleware_function_id)
    }

    /// A session as an authentication function grants it. `Err` is the text of `AUTH_ERROR`.
    pub fn grant(result: &[u8], rules: &AccessRules, middleware_function_id: Option<&str>) -> Result<Session, String> {
        if result.trim_ascii() == b"null" {
            return Err("auth function returned no result".to_owned());
        }
        let granted: Granted = serde_json::from_slice(result)
            .map_err(|error| format!("the result of the auth function cannot be read: {error}"))?;
        Ok(Session::with(granted, Some(rules), middleware_function_id))
    }

    fn with(granted: Granted, rules: Option<&AccessRules>, middleware_function_id: Option<&str>) -> Session {
        let context = granted.context.to_string().into_bytes();
        let middleware_function_id = middleware_function_id.map(str::to_owned);
        Session { granted, rules: rules.cloned(), middleware_function_id, context }
    }

    /// Function that calls of this session go through (PROTO-125).
    pub fn middleware(&self) -> Option<&str> {
        self.middleware_function_id.as_deref()
    }

    /// The session's context: one JSON value.
    pub fn context(&self) -> &[u8] {
        &self.context
    }

    /// Rules of the listener.
    pub fn rules(&self) -> Option<&AccessRules> {
        self.rules.as_ref()
    }

    // === calls ===

    /// Whether a function may be called (PROTO-122).
    pub fn permission(&self, namespace: &str, id: &str) -> Permission {
        let granted = &self.granted;
        if granted.forbidden_functions.contains(id) {
            return Permission::Denied(format!("function '{id}' not allowed (remove from rbac.forbidden_functions)"));
        }
        let in_namespace = granted.namespaces.get(namespace).into_iter().flatten();
        if in_namespace.into_iter().any(|grant| matches_grant(grant, id))
            || (namespace == DEFAULT_NAMESPACE && granted.allowed_functions.contains(id))
            || INFRASTRUCTURE.contains(&id)
        {
            return Permission::Allowed;
        }
        let Some(rules) = &self.rules else { return Permission::Allowed };
        let mut by_metadata = false;
        for filter in &rules.expose_functions {
            match filter {
                FunctionFilter::Id { pattern, namespace: space } => {
                    if space == namespace && exposes(pattern, id) {
                        return Permission::Allowed;
                    }
                }
                FunctionFilter::Metadata { namespace: space, .. } => by_metadata |= space == namespace,
            }
        }
        if by_metadata {
            return Permission::ByMetadata;
        }
        Permission::Denied(not_exposed(id))
    }

    /// The same for a function whose metadata is known.
    pub fn permits(&self, namespace: &str, id: &str, metadata: Option<&[u8]>) -> Result<(), String> {
        match self.permission(namespace, id) {
            Permission::Allowed => Ok(()),
            Permission::Denied(message) => Err(message),
            Permission::ByMetadata => {
                let metadata: Value =
                    metadata.and_then(|text| serde_json::from_slice(text).ok()).unwrap_or(Value::Null);
                let filters = self.rules.iter().flat_map(|rules| &rules.expose_functions);
                let mut matching = filters.filter(|filter| match filter {
                    FunctionFilter::Metadata { members, namespace: space } => {
                        space == namespace && members.iter().all(|(name, rule)| holds(rule, &metadata[name.as_str()]))
                    }
                    FunctionFilter::Id { .. } => false,
                });
                matching.next().map(drop).ok_or_else(|| not_exposed(id))
            }
        }
    }

    /// Whether the session may live in a namespace (PROTO-124). `Err` = what to tell it.
    pub fn admits_namespace(&self, namespace: &str) -> Result<(), String> {
        let permitted = &self.granted.namespaces;
        if permitted.is_empty() || permitted.contains_key(namespace) {
            return Ok(());
        }
        let names: Vec<&str> = permitted.keys().map(String::as_str).collect();
        Err(format!("namespace '{namespace}' not allowed for this session (permitted: {})", names.join(", ")))
    }

    // === registrations ===

    /// Whether functions may be registered.
    pub fn may_register_functions(&self) -> bool {
        self.granted.allow_function_registration
    }

    /// Whether trigger types may be registered.
    pub fn may_register_trigger_types(&self) -> bool {
        self.granted.allow_trigger_type_registration
    }

    /// Whether triggers of a type may be registered.
    pub fn may_use_trigger_type(&self, id: &str) -> bool {
        self.granted.allowed_trigger_types.as_ref().is_none_or(|allowed| allowed.contains(id))
    }

    /// The id under which a function of this session is known (PROTO-127).
    pub fn prefixed(&self, id: &str) -> String {
        match &self.granted.function_registration_prefix {
            Some(prefix) => format!("{prefix}::{id}"),
            None => id.to_owned(),
        }
    }

    /// The id under which the session itself knows one of its functions (PROTO-127).
    pub fn without_prefix<'a>(&self, id: &'a str) -> &'a str {
        let prefix = self.granted.function_registration_prefix.as_deref();
        prefix.and_then(|prefix| id.strip_prefix(prefix)?.strip_prefix("::")).unwrap_or(id)
    }
}

fn not_exposed(id: &str) -> String {
    format!("function '{id}' not allowed (add to rbac.expose_functions)")
}

/// A grant of a namespace: an id, `svc::*` or `match("svc::*")`.
fn matches_grant(grant: &str, id: &str) -> bool {
    let inner = grant.strip_prefix("match(").and_then(|rest| rest.strip_suffix(')'));
    let quoted = inner.and_then(|inner| {
        let inner = inner.trim();
        let double = inner.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        double.or_else(|| inner.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')))
    });
    exposes(quoted.unwrap_or(grant), id)
}

fn holds(rule: &MetadataRule, value: &Value) -> bool {
    match rule {
        MetadataRule::Exactly(text) => serde_json::from_str::<Value>(text).is_ok_and(|wanted| wanted == *value),
        MetadataRule::Pattern(pattern) => value.as_str().is_some_and(|text| matches_pattern(pattern, text)),
    }
}

/// Whether a pattern offers a function. What runs commands on the machine of the engine has to be named: `*` does not
/// mean `worker::add` (MW-64).
fn exposes(pattern: &str, id: &str) -> bool {
    const COMMANDS: &str = "worker::";
    matches_pattern(pattern, id) && (!id.starts_with(COMMANDS) || pattern.starts_with(COMMANDS))
}

/// `*` stands for any run of characters; both ends are anchored (PROTO-123). Linear in the text for each star.
pub fn matches_pattern(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where the last star was, and how much it has swallowed so far.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((at, swallowed)) = star {
            star = Some((at, swallowed + 1));
            p = at + 1;
            t = swallowed + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(expose_functions: Vec<FunctionFilter>) -> AccessRules {
        AccessRules { expose_functions, ..AccessRules::default() }
    }

    fn id(pattern: &str, namespace: &str) -> FunctionFilter {
        FunctionFilter::Id { pattern: pattern.to_owned(), namespace: namespace.to_owned() }
    }

    // PROTO-123
    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("a::*", "a::b", true),
            ("a::*", "a::", true),
            ("a::*", "ba::b", false),
            ("*::b", "a::b", true),
            ("*::b", "a::bc", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a", "a", true),
            ("**a", "bba", true),
        ] {
            assert_eq!(matches_pattern(pattern, text), expected, "{pattern} {text}");
        }
    }

    // PROTO-122: the first rule that says something wins.
    #[test]
    fn permission_by_the_first_rule_that_matches() {
        let result = br#"{"allowed_functions":["x::a","x::no"],"forbidden_functions":["x::no","open::no"],
            "namespaces":{"blue":["svc::*","match(\"m::*\")","one"]},"more":1}"#;
        let session = Session::grant(result, &rules(vec![id("open::*", "default")]), None).expect("it is valid");
        for (namespace, function, allowed) in [
            ("default", "x::a", true),
            ("blue", "x::a", false),
            ("default", "x::no", false),
            ("default", "open::b", true),
            ("default", "open::no", false),
            ("blue", "open::b", false),
            ("blue", "svc::b", true),
            ("blue", "m::b", true),
            ("blue", "one", true),
            ("blue", "one::two", false),
            ("default", "engine::log::info", true),
            ("default", "engine::functions::list", false),
        ] {
            assert_eq!(session.permits(namespace, function, None).is_ok(), allowed, "{namespace} {function}");
        }
        let denied = |id| session.permits("default", id, None).expect_err("it is denied");
        assert_eq!(denied("y"), "function 'y' not allowed (add to rbac.expose_functions)");
        assert_eq!(denied("x::no"), "function 'x::no' not allowed (remove from rbac.forbidden_functions)");
        let stranger = session.admits_namespace("red").expect_err("it is not among them");
        assert_eq!(stranger, "namespace 'red' not allowed for this session (permitted: blue)");
    }

    // MW-64
    #[test]
    fn a_star_does_not_offer_what_runs_commands() {
        for (pattern, id, expected) in [
            ("*", "worker::add", false),
            ("work*", "worker::add", false),
            ("worker::*", "worker::add", true),
            ("worker::list", "worker::list", true),
            ("*", "workers::f", true),
        ] {
            assert_eq!(exposes(pattern, id), expected, "{pattern} {id}");
        }
    }

    // PROTO-123
    #[test]
    fn permission_by_metadata() {
        let filter = FunctionFilter::Metadata {
            members: vec![
                ("public".to_owned(), MetadataRule::Exactly("true".to_owned())),
                ("tier".to_owned(), MetadataRule::Pattern("gold*".to_owned())),
            ],
            namespace: "default".to_owned(),
        };
        let session = Session::open(Some(&rules(vec![filter])), None);
        assert_eq!(session.permission("default", "f"), Permission::ByMetadata);
        for (metadata, allowed) in [
            (Some(&br#"{"public":true,"tier":"gold-1"}"#[..]), true),
            (Some(br#"{"public":true,"tier":"silver"}"#), false),
            (Some(br#"{"public":"true","tier":"gold"}"#), false),
            (Some(b"[]"), false),
            (None, false),
        ] {
            assert_eq!(session.permits("default", "f", metadata).is_ok(), allowed, "{metadata:?}");
        }
    }

    // PROTO-121
    #[test]
    fn results_of_auth_functions() {
        let grant = |text: &str| Session::grant(text.as_bytes(), &AccessRules::default(), None);
        assert_eq!(grant("null").expect_err("nothing"), "auth function returned no result");
        for wrong in [r#"{"allowed_functions":"a"}"#, r#"{"namespaces":null}"#, "[1]", "\"yes\""] {
            assert!(grant(wrong).is_err(), "{wrong}");
        }
        let session =
            grant(r#"{"function_registration_prefix":"P","allowed_trigger_types":["cron"],"context":{"u":1}}"#);
        let session = session.expect("it is valid");
        assert_eq!((session.prefixed("a::b").as_str(), session.without_prefix("P::a::b")), ("P::a::b", "a::b"));
        assert!(session.may_use_trigger_type("cron") && !session.may_use_trigger_type("http"));
        assert!(session.may_register_functions() && !session.may_register_trigger_types());
        assert_eq!(session.context(), br#"{"u":1}"#);
        assert!(grant(r#"{"allowed_trigger_types":null}"#).expect("null = all").may_use_trigger_type("http"));
    }
}
