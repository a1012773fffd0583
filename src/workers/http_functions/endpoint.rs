//! What a registration says of its endpoint, and how its secrets are found (HTTPF-4 to HTTPF-8).

use super::security::matches_glob;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// Limit of a call that names none (HTTPF-4).
const TIMEOUT_DEFAULT_MS: u64 = 30_000;
const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/// Why a registration or a call of an endpoint fails: code and message.
pub type Problem = (&'static str, String);

#[derive(Debug, Deserialize)]
struct Written {
    url: String,
    method: Option<String>,
    timeout_ms: Option<u64>,
    headers: Option<BTreeMap<String, String>>,
    auth: Option<AuthWritten>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum AuthWritten {
    Bearer { token_key: String },
    ApiKey { header: String, value_key: String },
    Hmac { secret_key: String },
}

/// Proof that the engine may call the endpoint, secrets included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// Nothing.
    None,
    /// `Authorization: Bearer …`
    Bearer(String),
    /// A header of the endpoint's choice.
    ApiKey(String, String),
    /// A signature over time stamp and body.
    Hmac(String),
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where, as written.
    pub url: String,
    /// Upper case.
    pub method: String,
    /// From connecting to the last byte of the body.
    pub timeout: Duration,
    /// Sent with every call.
    pub headers: BTreeMap<String, String>,
    /// Proof of identity.
    pub auth: Auth,
}

impl Endpoint {
    /// Reads the `invocation` of a registration; `variable` looks into the engine's environment, as far as the
    /// patterns in `allowed` let it.
    pub fn parse(
        invocation: &[u8],
        allowed: &[String],
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Endpoint, Problem> {
        let invalid = |message: String| ("invalid_invocation", message);
        let value: Value = serde_json::from_slice(invocation).map_err(|error| invalid(error.to_string()))?;
        let written: Written = serde_json::from_value(value).map_err(|error| invalid(error.to_string()))?;
        let method = written.method.unwrap_or_else(|| "POST".to_owned()).to_ascii_uppercase();
        if !METHODS.contains(&method.as_str()) {
            return Err(invalid(format!("method '{method}' is none of {}", METHODS.join(", "))));
        }
        let secret = |name: &str, code: &'static str, what: &str| {
            let permitted = allowed.iter().any(|pattern| matches_glob(pattern, name));
            let found = variable(name).filter(|_| permitted);
            found.ok_or_else(|| (code, format!("{what} not found: {name}")))
        };
        let auth = match written.auth {
            None => Auth::None,
            Some(AuthWritten::Bearer { token_key }) => Auth::Bearer(secret(&token_key, "token_not_found", "Token")?),
            Some(AuthWritten::ApiKey { header, value_key }) => {
                Auth::ApiKey(header, secret(&value_key, "api_key_not_found", "API key")?)
            }
            Some(AuthWritten::Hmac { secret_key }) => Auth::Hmac(secret(&secret_key, "secret_not_found", "Secret")?),
        };
        Ok(Endpoint {
            url: written.url,
            method,
            timeout: Duration::from_millis(written.timeout_ms.unwrap_or(TIMEOUT_DEFAULT_MS)),
            headers: written.headers.unwrap_or_default(),
            auth,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Endpoint, Problem> {
        let variable = |name: &str| (name == "KEY" || name == "PRIVATE").then(|| "s3cret".to_owned());
        Endpoint::parse(text.as_bytes(), &["K*".to_owned()], variable)
    }

    // HTTPF-4, HTTPF-5: what is null is absent, the case of a method does not matter.
    #[test]
    fn registrations() {
        let plain = parse(r#"{"url":"https://a/","method":null,"timeout_ms":null,"headers":null,"auth":null}"#);
        let plain = plain.expect("nulls are absent");
        assert_eq!((plain.method.as_str(), plain.timeout), ("POST", Duration::from_secs(30)));
        assert_eq!(parse(r#"{"url":"u","method":"get"}"#).expect("any case").method, "GET");
        for wrong in
            [r#"{"url":"u","method":"HEAD"}"#, r#"{"method":"GET"}"#, r#"{"url":"u","auth":{"type":"basic"}}"#, "[]"]
        {
            assert_eq!(parse(wrong).err().map(|(code, _)| code), Some("invalid_invocation"), "{wrong}");
        }
    }

    // HTTPF-7, HTTPF-8
    #[test]
    fn secrets_come_from_the_environment() {
        let auth = |auth: &str| parse(&format!(r#"{{"url":"u","auth":{auth}}}"#));
        let found = auth(r#"{"type":"bearer","token_key":"KEY"}"#).ok().map(|endpoint| endpoint.auth);
        assert!(found == Some(Auth::Bearer("s3cret".to_owned())));
        for (text, code, message) in [
            (r#"{"type":"bearer","token_key":"NO"}"#, "token_not_found", "Token not found: NO"),
            (r#"{"type":"api_key","header":"h","value_key":"KNO"}"#, "api_key_not_found", "API key not found: KNO"),
            (r#"{"type":"hmac","secret_key":"PRIVATE"}"#, "secret_not_found", "Secret not found: PRIVATE"),
        ] {
            assert!(auth(text).err() == Some((code, message.to_owned())), "{text}");
        }
    }
}
