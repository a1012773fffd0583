//! One call of an endpoint: the request that is sent, and what its response means (HTTPF-11 to HTTPF-19).

use super::endpoint::{Auth, Endpoint};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use iii_shards::builtin::Failure;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use sha2::Sha256;
use std::error::Error as _;
use std::fmt::Write as _;

/// What is known of a call beyond its endpoint.
pub struct Call {
    /// Function id.
    pub function_id: String,
    /// Id of this attempt.
    pub invocation_id: String,
    /// Payload: one JSON value, as sent.
    pub body: Vec<u8>,
    /// Metadata: one JSON value.
    pub metadata: Option<Vec<u8>>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// W3C baggage.
    pub baggage: Option<String>,
}

/// Calls an endpoint. `limit` bounds the response, in bytes.
pub async fn call(
    client: &reqwest::Client,
    endpoint: &Endpoint,
    call: Call,
    limit: u64,
    unix_s: u64,
) -> Result<Vec<u8>, Failure> {
    let place = place_of(&endpoint.url);
    let method = reqwest::Method::from_bytes(endpoint.method.as_bytes()).unwrap_or(reqwest::Method::POST);
    let headers = headers(endpoint, &call, unix_s).map_err(|message| Failure::new("serialization_error", message))?;
    let request = client.request(method, &endpoint.url).timeout(endpoint.timeout).headers(headers).body(call.body);
    let failed = |error: reqwest::Error| Failure::new("http_request_failed", describe(&place, error));
    let mut response = request.send().await.map_err(failed)?;
    let status = response.status();
    let mut body = Vec::new();
    let too_large = || {
        let message = format!("the response of {place} is larger than {limit} bytes");
        Failure::new("response_too_large", message)
    };
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if (body.len() + chunk.len()) as u64 > limit => return Err(too_large()),
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(error) if error.is_timeout() => return Err(failed(error)),
            Err(error) => return Err(Failure::new("http_response_failed", describe(&place, error))),
        }
    }
    outcome(status.as_u16(), status.canonical_reason().unwrap_or(""), &body)
}

/// What a response means to the caller (HTTPF-19). An empty vector is success without a value.
fn outcome(status: u16, reason: &str, body: &[u8]) -> Result<Vec<u8>, Failure> {
    let parsed: Result<Value, _> = serde_json::from_slice(body);
    if status >= 400 {
        let error = parsed.ok().and_then(|value| value.get("error").cloned());
        let Some(error) = error else {
            return Err(Failure::new("http_error", format!("HTTP {status} {reason}").trim_end().to_owned()));
        };
        let text = |name: &str| error.get(name).and_then(Value::as_str).map(str::to_owned);
        let code = text("code").unwrap_or_else(|| "http_error".to_owned());
        return Err(Failure::new(code, text("message").unwrap_or_else(|| "HTTP request failed".to_owned())));
    }
    match parsed {
        // Byte for byte: a number must not change on the way.
        Ok(_) => Ok(body.trim_ascii().to_vec()),
        Err(_) if body.is_empty() || !(200..300).contains(&status) => Ok(Vec::new()),
        Err(error) => Err(Failure::new("invalid_response", error.to_string())),
    }
}

fn headers(endpoint: &Endpoint, call: &Call, unix_s: u64) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let mut put = |name: &str, value: &str| -> Result<(), String> {
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("'{name}' is not a header name"))?;
        let value = HeaderValue::from_str(value).map_err(|_| format!("the value of header '{name}' is not valid"))?;
        headers.insert(parsed, value);
        Ok(())
    };
    put("content-type", "application/json")?;
    put("accept", "*/*")?;
    if let Auth::Bearer(token) = &endpoint.auth {
        put("authorization", &format!("Bearer {token}"))?;
    }
    for (name, value) in &endpoint.headers {
        // What the engine says of itself is not to be forged.
        if !name.to_ascii_lowercase().starts_with("x-iii-") {
            put(name, value)?;
        }
    }
    put("x-iii-function-path", &call.function_id)?;
    put("x-iii-invocation-id", &call.invocation_id)?;
    put("x-iii-timestamp", &unix_s.to_string())?;
    for (name, value) in [("traceparent", &call.traceparent), ("baggage", &call.baggage)] {
        if let Some(value) = value {
            put(name, value)?;
        }
    }
    if let Some(metadata) = &call.metadata {
        put("x-iii-metadata", &URL_SAFE_NO_PAD.encode(metadata))?;
    }
    match &endpoint.auth {
        Auth::ApiKey(name, value) => put(name, value)?,
        Auth::Hmac(secret) => put("x-iii-signature", &signature(secret, unix_s, &call.body))?,
        Auth::None | Auth::Bearer(_) => {}
    }
    Ok(headers)
}

/// HTTPF-13
fn signature(secret: &str, unix_s: u64, body: &[u8]) -> String {
    // A key of any length is fine for HMAC.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return String::new() };
    mac.update(format!("{unix_s}:{}", STANDARD.encode(body)).as_bytes());
    let mut text = "sha256=".to_owned();
    for byte in mac.finalize().into_bytes() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Scheme, host and path: a query may hold a secret.
fn place_of(url: &str) -> String {
    let Ok(mut url) = reqwest::Url::parse(url) else { return String::new() };
    url.set_query(None);
    url.set_fragment(None);
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

/// The chain of what went wrong, with the place instead of the URL.
fn describe(place: &str, error: reqwest::Error) -> String {
    let timed_out = error.is_timeout();
    let error = error.without_url();
    let head = if error.is_builder() { "builder error" } else { "error sending request" };
    let mut text = format!("{head} for url ({place})");
    if timed_out {
        text.push_str(": operation timed out");
        return text;
    }
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    // HTTPF-13: a vector that was seen on the wire.
    #[test]
    fn signatures() {
        let body = br#"{"_caller_worker_id":"83caf155-0bd7-4a4a-86d4-629d01256ea7","a":1}"#;
        assert_eq!(
            signature("hmacsecret", 1_795_230_426, body),
            "sha256=6e2223cb04e91b84a298e569fc69851e845130c2ea84d6bdc3a9b5302b16b7ff"
        );
    }

    // HTTPF-19
    #[test]
    fn responses() {
        for (status, reason, body, expected) in [
            (200, "OK", r#" {"n":1e2} "#, Ok(r#"{"n":1e2}"#)),
            (200, "OK", "null", Ok("null")),
            (200, "OK", "", Ok("")),
            (204, "No Content", "", Ok("")),
            (302, "Found", "moved", Ok("")),
            (302, "Found", "[1]", Ok("[1]")),
            (200, "OK", "hello", Err(("invalid_response", "expected value at line 1 column 1"))),
            (502, "Bad Gateway", r#"{"error":{"code":"UP","message":"broken"}}"#, Err(("UP", "broken"))),
            (500, "x", r#"{"error":"str"}"#, Err(("http_error", "HTTP request failed"))),
            (404, "Not Found", "nope", Err(("http_error", "HTTP 404 Not Found"))),
            (400, "Bad Request", r#"{"a":1}"#, Err(("http_error", "HTTP 400 Bad Request"))),
        ] {
            let seen = outcome(status, reason, body.as_bytes());
            let seen = seen.as_deref().map_err(|failure| (&*failure.code, failure.message.as_str()));
            assert_eq!(seen, expected.map(str::as_bytes), "{status} {body}");
        }
    }

    // HTTPF-12: configured headers replace ours, but not those that say who is calling.
    #[test]
    fn what_is_sent() {
        let endpoint = Endpoint {
            url: "https://h/".to_owned(),
            method: "POST".to_owned(),
            timeout: std::time::Duration::from_secs(1),
            headers: [("Content-Type", "text/x"), ("X-III-Timestamp", "5"), ("a", "b")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            auth: Auth::ApiKey("x-key".to_owned(), "k".to_owned()),
        };
        let call = Call {
            function_id: "crm::notify".to_owned(),
            invocation_id: "id".to_owned(),
            body: b"null".to_vec(),
            metadata: Some(br#"{"m":1}"#.to_vec()),
            traceparent: None,
            baggage: None,
        };
        let headers = headers(&endpoint, &call, 7).expect("all are valid");
        for (name, value) in [
            ("content-type", "text/x"),
            ("x-iii-timestamp", "7"),
            ("x-iii-function-path", "crm::notify"),
            ("x-key", "k"),
            ("a", "b"),
            ("x-iii-metadata", "eyJtIjoxfQ"),
        ] {
            assert_eq!(headers.get(name).and_then(|value| value.to_str().ok()), Some(value), "{name}");
        }
    }

    #[test]
    fn secrets_stay_out_of_messages() {
        assert_eq!(place_of("https://u:p@h:1/a?token=x#f"), "https://h:1/a");
    }
}
