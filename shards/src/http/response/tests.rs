//! The observed results of handlers and middleware, and what they become.

use super::*;
use crate::http::cors::CorsPolicy;
use crate::http::method::Method;

const ID: u64 = 0xABC;

/// `status|header lines|body`
fn show(response: &Response<'_>) -> String {
    let mut lines = Vec::new();
    response.head.headers.write(&mut lines, &[]);
    let lines = String::from_utf8(lines).unwrap().replace("\r\n", ";");
    format!("{}|{lines}|{}", response.head.status, String::from_utf8_lossy(&response.body))
}

fn check(rows: &[(&str, &str)]) {
    for (result, expected) in rows {
        assert_eq!(show(&Response::from_result(result.as_bytes(), ID)), *expected, "{result}");
    }
}

#[test]
fn results_that_are_no_envelopes() {
    // HTTP-45; cases 27, S6
    check(&[
        (r#"{"a":1}"#, "200||{}"),
        (r#""hi""#, "200||{}"),
        ("5", "200||{}"),
        ("[1,2]", "200||{}"),
        (r#"{"hello":1}"#, "200||{}"),
        (r#"{"status":404}"#, "200||{}"),
    ]);
    assert!(is_null(b" null ") && !is_null(b"{}"));
    // What is not JSON at all cannot have come from a worker.
    assert!(
        show(&Response::from_result(b"{\"body\":1", ID)).starts_with("500||{\"error\":{\"code\":\"INTERNAL_ERROR\"")
    );
}

#[test]
fn status_codes() {
    // HTTP-46; cases 29, 30, 31, S11
    check(&[
        (r#"{"status_code":201,"body":1}"#, "201||1"),
        (r#"{"status_code":204}"#, "204||{}"),
        (r#"{"status_code":999,"body":1}"#, "999||1"),
        (r#"{"status_code":"404","body":1}"#, "200||1"),
        (r#"{"status_code":404.0,"body":1}"#, "404||1"),
        (r#"{"status_code":404.5,"body":1}"#, "200||1"),
        (r#"{"status_code":70000,"body":1}"#, "200||1"),
        (r#"{"status_code":65736,"body":1}"#, "200||1"),
        (r#"{"status_code":-1,"body":1}"#, "200||1"),
        (r#"{"status_code":99,"body":1}"#, "200||1"),
        (r#"{"status_code":1e30,"body":1}"#, "200||1"),
        (r#"{"status_code":100,"body":1}"#, "500||"),
        (r#"{"status_code":199,"headers":{"x":"1"}}"#, "500||"),
        (r#"{"statusCode":404,"body":1}"#, "404||1"),
        (r#"{"statusCode":404,"status_code":201,"body":1}"#, "201||1"),
        (r#"{"statusCode":404,"status_code":"x","body":1}"#, "200||1"),
        (r#"{"status\u005fcode":201,"body":1}"#, "201||1"),
    ]);
}

#[test]
fn header_forms() {
    // HTTP-47, HTTP-50; cases 36, 37
    check(&[
        (r#"{"headers":["X-A: 1","X-A: 2","bad",5,"X-B:  v:w ",": x"],"body":1}"#, "200|x-a: 1;x-a: 2;x-b: v:w;|1"),
        (r#"{"headers":{"X-N":5,"X-O":{},"X-S":"s"},"body":1}"#, "200|x-s: s;|1"),
        (r#"{"headers":{"Set-Cookie":["a=1","b=2",3]},"body":1}"#, "200|set-cookie: a=1;set-cookie: b=2;|1"),
        (r#"{"headers":{"x a":"1","x-b":"1\r\nx-evil: 1","x-c":"\u00e9"},"body":1}"#, "200|x-c: \u{e9};|1"),
        (r#"{"headers":["x-b: 1\r\nx-evil: 1","x-c:\n1\n"],"body":1}"#, "200|x-c: 1;|1"),
        (
            r#"{"headers":{"Content-Length":"100","Transfer-Encoding":"chunked","Connection":"x","Keep-Alive":"x","Upgrade":"x","TE":"x","Trailer":"x","server":"s"},"body":1}"#,
            "200|server: s;|1",
        ),
        (r#"{"headers":"x-a: 1","body":1}"#, "200||1"),
    ]);
}

#[test]
fn body_encoding() {
    // HTTP-48, HTTP-49; cases 32 to 35, S4, S5
    check(&[
        (r#"{"status_code":200}"#, "200||{}"),
        (r#"{"headers":{"content-type":"text/html"}}"#, "200|content-type: text/html;|{}"),
        (r#"{"body":null}"#, "200||null"),
        (r#"{"body":null,"headers":{"content-type":"text/html"}}"#, "200|content-type: text/html;|"),
        (r#"{"body":"text"}"#, "200||\"text\""),
        (r#"{"body":"text","headers":{"Content-Type":"text/plain"}}"#, "200|content-type: text/plain;|text"),
        (
            r#"{"body":"text","headers":{"content-type":"application/json"}}"#,
            "200|content-type: application/json;|text",
        ),
        (
            r#"{"body":"<p>\n\u00e9\ud83d\ude00\"</p>","headers":["Content-Type: text/html"]}"#,
            "200|content-type: text/html;|<p>\n\u{e9}\u{1F600}\"</p>",
        ),
        (r#"{"body": {"z": [1, 2], "a": "x y"} }"#, r#"200||{"z":[1,2],"a":"x y"}"#),
        (r#"{"body":{"e":1},"headers":{"content-type":"text/plain"}}"#, r#"200|content-type: text/plain;|{"e":1}"#),
        (r#"{"body":true}"#, "200||true"),
        (
            r#"{"body":[12345678901234567890,9007199254740993,1e+21]}"#,
            "200||[12345678901234567890,9007199254740993,1e+21]",
        ),
        (r#"{"body":{"type":"Buffer","data":[104,105]}}"#, r#"200||{"type":"Buffer","data":[104,105]}"#),
        (
            r#"{"body":{"type":"Buffer","data":[104,105]},"headers":{"content-type":"image/png"}}"#,
            "200|content-type: image/png;|hi",
        ),
        (
            r#"{"body":{"type":"Buffer","data":[104,256]},"headers":{"content-type":"image/png"}}"#,
            r#"200|content-type: image/png;|{"type":"Buffer","data":[104,256]}"#,
        ),
        (
            r#"{"body":{"type":"Buffer","data":[1]},"headers":{"content-type":"application/json"}}"#,
            r#"200|content-type: application/json;|{"type":"Buffer","data":[1]}"#,
        ),
    ]);
    let plain = Response::from_result(b"{\"body\":{\"a\":1}}", ID);
    assert!(matches!(plain.body, Cow::Borrowed(_)), "a compact body is not copied");
}

#[test]
fn error_bodies() {
    // HTTP-51, HTTP-53, HTTP-54; cases 10, 15, 16, 38, 40, 41, 50
    assert_eq!(
        show(&Response::from_error(br#"{"code":"BOOM","message":"it broke","stacktrace":"s"}"#, u64::MAX)),
        r#"500||{"error":{"code":"BOOM","error_id":"ffffffffffff","message":"it broke"}}"#
    );
    assert!(show(&Response::from_error(b"{}", 1)).contains(r#""code":"invocation_failed","error_id":"1""#));
    assert_eq!(show(&Response::not_found()), r#"404||{"error":{"code":"NOT_FOUND","message":"Not Found"}}"#);
    assert_eq!(Response::not_found().body.len(), 52);
    let mut methods = MethodSet::EMPTY;
    [Method::Get, Method::Patch].into_iter().for_each(|method| methods.insert(method));
    assert_eq!(
        show(&Response::method_not_allowed(methods.allowed())),
        r#"405|allow: GET,HEAD,PATCH;|{"error":{"code":"METHOD_NOT_ALLOWED","message":"Method Not Allowed"}}"#
    );
    assert_eq!(
        show(&Response::condition_not_met()),
        r#"422||{"error":{"code":"CONDITION_NOT_MET","message":"Request condition not met"},"skipped":true}"#
    );
    assert_eq!(show(&Response::timeout()), r#"504||{"error":{"code":"TIMEOUT","message":"Gateway Timeout"}}"#);
    assert_eq!(
        show(&Response::middleware_timeout()),
        r#"504||{"error":{"code":"MIDDLEWARE_TIMEOUT","message":"Middleware timeout"}}"#
    );
    assert!(show(&Response::internal_error(1)).contains("internal server error"));
    assert!(show(&Response::payload_too_large()).starts_with("413||"));
}

#[test]
fn middleware_verdicts() {
    // HTTP-41, HTTP-42; cases 51, 52
    for result in [r#"{"action":"continue"}"#, "{}", "null", "", r#"{"action":"zzz"}"#, r#"{"response":{}}"#, "[]"] {
        assert_eq!(Verdict::from_result(result.as_bytes()), Verdict::Continue, "{result}");
    }
    for (response, expected) in [
        (r#"{"action":"respond"}"#, "200||null"),
        (
            r#"{"action":"respond","response":{"status_code":401,"headers":{"Content-Type":"text/plain"},"body":{"e":1}}}"#,
            r#"401|content-type: text/plain;|{"e":1}"#,
        ),
        (r#"{"action":"respond","response":{"body":"no"}}"#, "200||\"no\""),
    ] {
        let Verdict::Respond(seen) = Verdict::from_result(response.as_bytes()) else { panic!("{response}") };
        assert_eq!(show(&seen), expected);
    }
}

#[test]
fn heads_in_wire_form() {
    // HTTP-64, HTTP-67; cases 26, 29
    let policy = CorsPolicy::default();
    let cors = policy.response_lines(None);
    let wire = |response: &Response<'_>, change: &dyn Fn(&mut HeadContext<'_>)| {
        let mut context = HeadContext {
            version: Version::Http11,
            cors: &cors,
            framing: Framing::Length(response.body.len() as u64),
            keep_alive: true,
            date: HttpDate::from_unix_seconds(0),
        };
        change(&mut context);
        let mut out = Vec::new();
        response.head.write(&mut out, &context);
        String::from_utf8(out).unwrap()
    };
    const CORS: &str = "vary: origin, access-control-request-method, access-control-request-headers\r\n\
        access-control-allow-origin: *\r\naccess-control-expose-headers: *\r\n";
    const DATE: &str = "date: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n";

    let result = br#"{"headers":{"X-A":"1","Vary":"x","Access-Control-Allow-Origin":"http://a"},"body":1}"#;
    let seen = wire(&Response::from_result(result, ID), &|context| context.keep_alive = false);
    assert_eq!(
        seen,
        format!(
            "HTTP/1.1 200 OK\r\nx-a: 1\r\nvary: x\r\ncontent-type: application/json\r\n{CORS}content-length: 1\r\n\
             connection: close\r\n{DATE}"
        )
    );
    let no_content = wire(&Response::from_result(br#"{"status_code":204}"#, ID), &|_| {});
    assert_eq!(no_content, format!("HTTP/1.1 204 No Content\r\ncontent-type: application/json\r\n{CORS}{DATE}"));

    let old = wire(&Response::empty(200), &|context| context.version = Version::Http10);
    assert_eq!(old, format!("HTTP/1.0 200 OK\r\n{CORS}content-length: 0\r\nconnection: keep-alive\r\n{DATE}"));

    let streamed = wire(&Response::empty(999), &|context| {
        context.framing = Framing::Chunked;
        context.cors = &[];
    });
    assert_eq!(streamed, format!("HTTP/1.1 999 <none>\r\ntransfer-encoding: chunked\r\n{DATE}"));

    let dated = Response::from_result(br#"{"headers":{"Date":"then"},"body":1}"#, ID);
    assert!(wire(&dated, &|_| {}).ends_with("content-length: 1\r\ndate: then\r\n\r\n"));
}
