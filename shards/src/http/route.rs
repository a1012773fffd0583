//! What an `http` trigger registers: its configuration, and the route made of it.

use super::json::{Kind, Raw};
use super::method::Method;

/// Who a registration belongs to (HTTP-16, HTTP-20).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owner {
    /// The engine: registered through `engine::register_trigger`, survives its caller.
    Engine,
    /// A worker connection, by its packed id.
    Connection(u64),
}

/// A registered trigger: whom to call for a matching request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Id of the trigger.
    pub trigger_id: Box<str>,
    /// Who registered it.
    pub owner: Owner,
    /// Method, path, condition and middleware.
    pub config: RouteConfig,
    /// The function to call.
    pub function_id: Box<str>,
    /// Where the function, the condition and the middleware are looked up (HTTP-14).
    pub namespace: Box<str>,
    /// The trigger's metadata as raw JSON (HTTP-28).
    pub metadata: Option<Box<str>>,
}

/// The `config` object of an `http` trigger (HTTP-11).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteConfig {
    /// The path exactly as given.
    pub api_path: Box<str>,
    /// The method, `GET` if none was given.
    pub method: Method,
    /// The function that may veto a request.
    pub condition_function_id: Option<Box<str>>,
    /// Functions that run before the handler, in this order.
    pub middleware_function_ids: Box<[Box<str>]>,
}

/// Why a trigger is not registered: the `message` of its `triggerregistrationresult` (HTTP-13).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteError(pub String);

impl RouteConfig {
    /// A configuration with nothing but a method and a path.
    pub fn new(method: Method, api_path: &str) -> RouteConfig {
        RouteConfig {
            api_path: api_path.into(),
            method,
            condition_function_id: None,
            middleware_function_ids: Box::default(),
        }
    }

    /// Reads the raw `config` of a registration. Unknown members are for others to show, not for us.
    pub fn parse(config: &[u8]) -> Result<RouteConfig, RouteError> {
        let text = |value: Raw<'_>| value.string().map(|text| Box::from(text.as_ref()));
        let mut api_path: Option<Box<str>> = None;
        let mut method: Option<Box<str>> = None;
        let mut condition_function_id: Option<Box<str>> = None;
        let mut middleware_function_ids: Vec<Box<str>> = Vec::new();
        let parsed = Raw::parse_members(config, |name, value| match name.string().as_deref() {
            Some("api_path") => api_path = text(value),
            Some("http_method") => method = text(value),
            Some("condition_function_id") => condition_function_id = text(value),
            Some("middleware_function_ids") => {
                middleware_function_ids.clear();
                value.each_element(|id| middleware_function_ids.extend(text(id)));
            }
            _ => {}
        });
        let api_path = api_path
            .filter(|_| parsed == Some(true))
            .ok_or_else(|| RouteError("api_path is required for http triggers".to_owned()))?;
        let method = match method {
            None => Method::Get,
            Some(name) => Method::from_config(&name)
                .ok_or_else(|| RouteError(format!("Unsupported HTTP method: {}", name.to_uppercase())))?,
        };
        Ok(RouteConfig {
            api_path,
            method,
            condition_function_id,
            middleware_function_ids: middleware_function_ids.into(),
        })
    }
}

/// Whether the raw result of a condition function blocks the request: only `false` does (HTTP-39).
pub fn condition_blocks(result: &[u8]) -> bool {
    Raw::parse(result).is_some_and(|value| value.kind() == Kind::Bool && value.text() == "false")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations() {
        // HTTP-11, HTTP-12, HTTP-13
        let parse = |text: &str| RouteConfig::parse(text.as_bytes()).map_err(|error| error.0);
        let config = parse(
            r#"{"api_path":"a/:id","http_method":"pOst","condition_function_id":"c","x":1,
                "middleware_function_ids":["m1",5,"m2"]}"#,
        )
        .unwrap();
        assert_eq!((&*config.api_path, config.method), ("a/:id", Method::Post));
        assert_eq!(config.condition_function_id.as_deref(), Some("c"));
        assert_eq!(*config.middleware_function_ids, [Box::from("m1"), Box::from("m2")]);

        let plain = parse(r#"{"api_path":"a","http_method":5,"middleware_function_ids":"m"}"#);
        assert_eq!(plain, Ok(RouteConfig::new(Method::Get, "a")));
        for bad in ["{}", "{\"api_path\":5}", "null", "[]", "{\"api_path\":\"a\"", ""] {
            assert_eq!(parse(bad), Err("api_path is required for http triggers".to_owned()), "{bad}");
        }
        let trace = parse(r#"{"api_path":"a","http_method":"trace"}"#);
        assert_eq!(trace, Err("Unsupported HTTP method: TRACE".to_owned()));
    }

    #[test]
    fn only_false_blocks() {
        // HTTP-39
        assert!(condition_blocks(b"false"));
        for pass in ["null", "", "0", "\"false\"", "{}", "true"] {
            assert!(!condition_blocks(pass.as_bytes()), "{pass}");
        }
    }
}
