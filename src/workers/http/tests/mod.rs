//! The worker on a fake shard: requests in, calls out, answers in, responses out.

mod bench;
mod streams;

use bench::{Bench, binding, get, post};
use serde_json::{Value, json};

use super::routes::Registrations;
use crate::config::settings::{CorsSettings, HttpSettings, MiddlewareSettings};

fn settings(change: impl FnOnce(&mut HttpSettings)) -> HttpSettings {
    let mut settings = HttpSettings::default();
    change(&mut settings);
    settings
}

fn data(call: &iii_shards::builtin::fake::Made) -> Value {
    serde_json::from_str(&call.data).unwrap()
}

// HTTP-27, HTTP-28, HTTP-29, HTTP-37; cases 2, 8, S1
#[test]
fn a_request_becomes_a_call_and_its_result_the_response() {
    let mut bench = Bench::routing(HttpSettings::default(), &["POST users/:id f"]);
    let socket = bench.request(&post("/users/42?q=1", r#"{"n":1}"#));
    let call = bench.call();
    assert_eq!((&*call.namespace, &*call.function_id, call.timeout_ms), ("default", "f", None));
    assert_eq!(call.metadata.as_deref(), Some("{\"team\":\"a\"}"));
    assert_eq!(call.traceparent.as_ref().map(String::len), Some(55));
    let data = data(&call);
    assert_eq!(data["method"], "POST");
    assert_eq!(data["path"], "users/:id");
    assert_eq!(data["path_params"], json!({"id": "42"}));
    assert_eq!(data["query_params"], json!({"q": "1"}));
    assert_eq!(data["body"], json!({"n": 1}));
    assert_eq!(data["trigger"]["remote_addr"], "127.0.0.1");
    assert_ne!(data["request_body"]["channel_id"], data["response"]["channel_id"]);
    bench.answer(&call, json!({"status_code": 201, "headers": {"X-A": "1"}, "body": {"sum": 3}}));
    let output = bench.output(socket);
    assert!(
        output.starts_with("HTTP/1.1 201 Created\r\nx-a: 1\r\ncontent-type: application/json\r\nvary: "),
        "{output}"
    );
    assert!(output.ends_with("\r\n\r\n{\"sum\":3}"), "{output}");
    assert!(bench.host.channels.is_empty(), "HTTP-63");
    // The connection serves the next one.
    bench.send(socket, post("/users/43", "{bad json"));
    let call = bench.call();
    assert_eq!(self::data(&call)["body"], Value::Null, "case 3");
    bench.answer(&call, json!({"body": 1}));
    assert_eq!(bench.response(socket), (200, "1".to_owned()));
}

// HTTP-51, HTTP-54, HTTP-55, HTTP-66, HTTP-70, HTTP-76; cases 10, 15, 16, 18, 19
#[test]
fn what_no_function_answers() {
    let mut bench =
        Bench::routing(HttpSettings::default(), &["GET /a a", "PATCH /a b", "OPTIONS /o o", "GET /health/x x"]);
    let mut response = |text: &str| {
        let socket = bench.request(text);
        assert_eq!(bench.host.take_made(), []);
        bench.output(socket)
    };
    let missing = response(&get("/b"));
    assert!(missing.starts_with("HTTP/1.1 404 Not Found\r\n"), "{missing}");
    assert!(missing.ends_with(r#"{"error":{"code":"NOT_FOUND","message":"Not Found"}}"#), "{missing}");
    assert!(missing.contains("access-control-allow-origin: *\r\n"), "HTTP-64: {missing}");
    let method = response("DELETE /a HTTP/1.1\r\n\r\n");
    assert!(method.starts_with("HTTP/1.1 405 Method Not Allowed\r\nallow: GET,HEAD,PATCH\r\n"), "{method}");
    for options in ["/a", "/nope", "/o"] {
        let preflight =
            format!("OPTIONS {options} HTTP/1.1\r\naccess-control-request-method: GET\r\norigin: http://o\r\n\r\n");
        let preflight = response(&preflight);
        assert!(preflight.starts_with("HTTP/1.1 200 OK\r\naccess-control-allow-methods: *\r\n"), "{preflight}");
        assert!(preflight.ends_with("\r\n\r\n"), "{preflight}");
        assert_eq!(preflight.contains("\r\nallow: GET,HEAD,PATCH\r\n"), options == "/a", "{preflight}");
    }
    let health = response(&get("/health"));
    assert!(health.contains("\r\n\r\n{\"status\":\"healthy\",\"version\":\""), "{health}");
    assert!(response("HEAD /health HTTP/1.1\r\n\r\n").ends_with("\r\n\r\n"));
    assert!(response("POST /health HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
    // A registered OPTIONS route is called unless it is a preflight (HTTP-66).
    bench.request("OPTIONS /o HTTP/1.1\r\n\r\n");
    assert_eq!(bench.call().function_id, "o");
    // HEAD from the GET handler, without the body (HTTP-55).
    let socket = bench.request("HEAD /a HTTP/1.1\r\n\r\n");
    let call = bench.call();
    assert_eq!(data(&call)["method"], "HEAD");
    bench.answer(&call, json!({"body": "four"}));
    let output = bench.output(socket);
    assert!(output.contains("content-length: 6\r\n") && output.ends_with("\r\n\r\n"), "{output}");
    // Any user route wins over the built-in one.
    bench.route("mine", "h", json!({"api_path": "health"}));
    bench.request(&get("/health"));
    assert_eq!(bench.call().function_id, "h");
}

// HTTP-37, HTTP-38, HTTP-39, HTTP-41, HTTP-42, HTTP-53; cases 50 to 53
#[test]
fn the_steps_of_a_request_in_order() {
    let middleware = |function_id: &str, phase: &str, priority| MiddlewareSettings {
        function_id: function_id.to_owned(),
        phase: phase.to_owned(),
        priority,
    };
    let settings = settings(|settings| {
        settings.middleware = vec![
            middleware("g1", "preHandler", 1),
            middleware("never", "onRequest", 2),
            middleware("g2", "preHandler", 10),
        ];
    });
    let mut bench = Bench::with(settings);
    let config = json!({
        "api_path": "/a", "http_method": "POST", "condition_function_id": "c", "middleware_function_ids": ["m1", "m2"],
    });
    bench.route("t", "f", config);
    let steps = ["g1", "g2", "c", "m1", "m2", "f"];
    for stop in 0..steps.len() {
        for how in 0..2 {
            let socket = bench.request(&post("/a", "[1]"));
            for (index, step) in steps.iter().enumerate() {
                let call = bench.call();
                assert_eq!(call.function_id, *step);
                let data = data(&call);
                let is_middleware = data["phase"] == "preHandler";
                assert_eq!(is_middleware, step.starts_with(['g', 'm']));
                assert_eq!(data.get("response").is_some(), *step == "f", "HTTP-36");
                assert_eq!(data["body"], if is_middleware { Value::Null } else { json!([1]) });
                if index < stop {
                    let passes = [json!({"action": "continue"}), json!({}), Value::Null, json!({"action": "zzz"})];
                    bench.answer(&call, passes[index % passes.len()].clone());
                    continue;
                }
                let expected = if how == 1 {
                    bench.fail(
                        &call,
                        "function_not_found",
                        &format!("Function {step} not found in namespace default. Hint"),
                    );
                    let message = format!("Function {step} not found in namespace default");
                    (500, "function_not_found".to_owned(), message)
                } else if is_middleware {
                    bench.answer(&call, json!({"action": "respond", "response": {"status_code": 401, "body": "no"}}));
                    (401, String::new(), "no".to_owned())
                } else if *step == "c" {
                    bench.answer(&call, json!(false));
                    (422, "CONDITION_NOT_MET".to_owned(), "Request condition not met".to_owned())
                } else {
                    bench.answer(&call, json!({"body": "yes"}));
                    (200, String::new(), "yes".to_owned())
                };
                let (status, body) = bench.response(socket);
                assert_eq!(status, expected.0, "{body}");
                assert!(body.contains(&expected.1) && body.contains(&expected.2), "{body}");
                assert_eq!(body.contains("error_id"), status == 500, "{body}");
                break;
            }
        }
    }
    // Not for requests without a route (HTTP-38).
    bench.request(&get("/none"));
    assert_eq!(bench.host.take_made(), []);
}

// HTTP-44, HTTP-60, HTTP-64; cases 28, 39
#[test]
fn a_request_that_takes_too_long() {
    let mut bench = Bench::with(settings(|settings| settings.default_timeout = 4000));
    bench.route("t", "f", json!({"api_path": "/a", "middleware_function_ids": ["m"]}));
    let socket = bench.request(&get("/a"));
    let slow = bench.call();
    bench.wait(3999);
    assert_eq!(bench.output(socket), "");
    bench.wait(1);
    let (status, body) = bench.response(socket);
    assert_eq!((status, body.contains("MIDDLEWARE_TIMEOUT")), (504, true));
    assert_eq!(bench.host.forgotten, [slow.token.unwrap()]);

    bench.send(socket, get("/a"));
    let middleware = bench.call();
    bench.answer(&middleware, Value::Null);
    let handler = bench.call();
    bench.wait(4000);
    let output = bench.output(socket);
    assert!(output.starts_with("HTTP/1.1 504 ") && output.contains("\"TIMEOUT\""), "{output}");
    assert!(output.contains("access-control-allow-origin: *"), "{output}");
    assert_eq!(bench.host.forgotten[1], handler.token.unwrap());
    assert!(bench.host.channels.is_empty());

    // 0 = unlimited
    let mut bench = Bench::routing(settings(|settings| settings.default_timeout = 0), &["GET /a f"]);
    let socket = bench.request(&get("/a"));
    let call = bench.call();
    bench.wait(1_000_000);
    bench.answer(&call, json!({}));
    assert_eq!(bench.response(socket).0, 200);
}

// HTTP-61
#[test]
fn requests_beyond_the_limit_wait_their_turn_without_losing_time() {
    let mut bench = Bench::routing(
        settings(|settings| {
            settings.concurrency_request_limit = 2;
            settings.default_timeout = 1000;
        }),
        &["GET /a f"],
    );
    let sockets: Vec<_> = (0..6).map(|_| bench.request(&get("/a"))).collect();
    let first = bench.host.take_made();
    assert_eq!(first.len(), 2);
    assert_eq!(bench.response_of_unrouted(), 404, "no slot is needed for these");
    bench.wait(900);
    // One that waits leaves: its turn passes to the next.
    bench.instance.socket_closed(sockets[2], &mut bench.host);
    bench.answer(&first[0], json!({"body": 1}));
    assert_eq!(bench.response(sockets[0]).1, "1");
    let second = bench.host.take_made();
    assert_eq!(second.len(), 1);
    bench.wait(900);
    assert_eq!(bench.response(sockets[1]).0, 504, "900 ms and 900 ms");
    bench.answer(&second[0], json!({"body": 2}));
    assert_eq!(bench.response(sockets[3]), (200, "2".to_owned()), "its time began when it was let in");
    let rest = bench.host.take_made();
    assert_eq!(rest.len(), 2);
    for (call, socket) in rest.iter().zip(&sockets[4..]) {
        bench.answer(call, json!({"body": 3}));
        assert_eq!(bench.response(*socket).1, "3");
    }
    let again: Vec<_> = (0..3).map(|_| bench.request(&get("/a"))).collect();
    assert_eq!((again.len(), bench.host.take_made().len()), (3, 2), "all slots were given back");
}

// HTTP-4
#[test]
fn optional_settings() {
    let mut bench = Bench::with(settings(|settings| {
        settings.body_limit = 10;
        settings.trust_proxy = true;
        settings.request_id_header = Some("X-Request-Id".to_owned());
        settings.ignore_trailing_slash = true;
        settings.decode_path_params = true;
        settings.not_found_function = Some("lost".to_owned());
        settings.openapi = false;
    }));
    bench.route("t", "f", json!({"api_path": "/a/:x", "http_method": "POST"}));
    let socket = bench.request(&post("/a/1", "12345678901"));
    assert_eq!(bench.response(socket).0, 413);
    let chunked = "POST /a/1 HTTP/1.1\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nb\r\n12345678901\r\n";
    let socket = bench.request(chunked);
    assert!(bench.response(socket).1.contains("PAYLOAD_TOO_LARGE"));

    let socket =
        bench.request("POST /a/%41/ HTTP/1.1\r\nx-forwarded-for: 10.0.0.9, 10.0.0.1\r\nx-request-id: mine\r\n\r\n");
    let call = bench.call();
    let data = data(&call);
    assert_eq!((&data["path_params"]["x"], &data["trigger"]["remote_addr"]), (&json!("A"), &json!("10.0.0.9")));
    bench.answer(&call, json!({}));
    assert!(bench.output(socket).contains("\r\nx-request-id: mine\r\n"), "HTTP-74");

    let socket = bench.request(&get("/openapi.json"));
    let call = bench.call();
    assert_eq!(call.function_id, "lost");
    let data = self::data(&call);
    assert_eq!((data.get("trigger"), data["path"].as_str()), (None, Some("/openapi.json")));
    let generated = data["headers"]["x-request-id"].as_str().unwrap().to_owned();
    bench.answer(&call, json!({"status_code": 404, "body": "lost"}));
    let output = bench.output(socket);
    assert!(output.contains(&format!("\r\nx-request-id: {generated}\r\n")) && output.ends_with("\"lost\""), "{output}");
}

// HTTP-65
#[test]
fn cors_of_a_list_of_origins() {
    let cors = CorsSettings { allowed_origins: vec!["http://o".to_owned()], allowed_methods: Vec::new() };
    let mut bench = Bench::routing(settings(|settings| settings.cors = Some(cors)), &["GET /a f"]);
    for (origin, allowed) in [("http://o", true), ("http://p", false)] {
        let socket = bench.request(&format!("GET /a HTTP/1.1\r\norigin: {origin}\r\n\r\n"));
        let call = bench.call();
        bench.answer(&call, json!({}));
        assert_eq!(bench.output(socket).contains("access-control-allow-origin: http://o\r\n"), allowed);
    }
}

// HTTP-15, HTTP-16, HTTP-17, HTTP-18
#[test]
fn routes_come_and_go() {
    let mut bench = Bench::routing(HttpSettings::default(), &["GET /a old", "GET /a new"]);
    let called = |bench: &mut Bench, path: &str| {
        bench.request(&get(path));
        bench.host.take_made().pop().map(|call| call.function_id)
    };
    assert_eq!(called(&mut bench, "/a").as_deref(), Some("new"));
    bench.instance.trigger_removed(&binding("GET /a new", "new", json!({"api_path": "/a"})), &mut bench.host);
    assert_eq!(called(&mut bench, "/a").as_deref(), Some("old"), "HTTP-16");
    bench.route("GET /a old", "moved", json!({"api_path": "/b"}));
    assert_eq!((called(&mut bench, "/a"), called(&mut bench, "/b").as_deref()), (None, Some("moved")), "HTTP-17");
}

// HTTP-7
#[test]
fn other_settings_take_nothing_away_from_requests_under_way() {
    let one = |timeout| {
        settings(|settings| {
            settings.concurrency_request_limit = 1;
            settings.default_timeout = timeout;
        })
    };
    let mut bench = Bench::routing(one(1000), &["GET /a f"]);
    let first = bench.request(&get("/a"));
    let call = bench.call();
    let waiting = bench.request(&get("/a"));
    bench.reconfigure(one(5000));
    // Nobody has told the new instance of its triggers yet.
    bench.send(first, get("/a"));
    let newcomer = bench.request(&get("/a"));
    let new_call = bench.call();
    bench.route("GET /a f", "f", json!({"api_path": "/a"}));
    bench.answer(&call, json!({"body": 1}));
    assert_eq!(bench.response(first), (200, "1".to_owned()));
    let waited = bench.call();
    bench.wait(1000);
    assert_eq!(bench.response(waiting).0, 504, "the settings it began with");
    bench.answer(&new_call, json!({"body": 2}));
    assert_eq!(bench.response(newcomer).1, "2");
    assert_eq!(bench.host.forgotten, [waited.token.unwrap()]);
    let last = bench.call();
    bench.answer(&last, json!({"body": 3}));
    assert_eq!(bench.response(first).1, "3", "pipelined before the change");
}

// HTTP-12, HTTP-13
#[test]
fn registrations_that_are_refused() {
    let registered = Registrations::default();
    let add = |id: &str, config: Value| registered.add(&binding(id, "f", config));
    assert_eq!(add("1", json!({})), Err("api_path is required for http triggers".to_owned()));
    assert_eq!(
        add("1", json!({"api_path": "/a", "http_method": "trace"})),
        Err("Unsupported HTTP method: TRACE".to_owned())
    );
    let first = json!({"api_path": "/k/:a/:b"});
    assert_eq!(add("1", first.clone()), Ok(()));
    let conflict = "Route 'GET /k/:b/:a' conflicts with already-registered route 'GET /k/:a/:b': routes with identical \
                    structure but different path-parameter names are not supported";
    assert_eq!(add("2", json!({"api_path": "/k/:b/:a"})), Err(conflict.to_owned()));
    assert_eq!(add("3", json!({"api_path": "/k/:q/:r", "http_method": "POST"})), Ok(()), "HTTP-19");
    registered.remove(&binding("1", "f", first));
    assert_eq!(add("2", json!({"api_path": "/k/:b/:a"})), Ok(()));
}

// HTTP-9, HTTP-52, HTTP-62, HTTP-68
#[test]
fn connections_end_without_leaving_anything() {
    let mut bench = Bench::routing(HttpSettings::default(), &["GET /a f"]);
    let idle = bench.connect();
    let busy = bench.request(&(get("/a") + &get("/a")));
    let gone = bench.request(&get("/a"));
    let calls = bench.host.take_made();
    assert_eq!(calls.len(), 2, "one request of a connection at a time");
    bench.instance.socket_closed(gone, &mut bench.host);
    assert_eq!(bench.host.forgotten, [calls[1].token.unwrap()]);
    bench.instance.stop(&mut bench.host);
    assert_eq!(bench.host.closed, [(idle, false)]);
    bench.fail(&calls[0], "invocation_stopped", "Invocation stopped");
    let output = bench.output(busy);
    assert!(output.contains("connection: close\r\n") && output.contains("\"invocation_stopped\""), "{output}");
    assert_eq!(bench.host.closed[1], (busy, false));
    assert!(bench.host.channels.is_empty());
    for socket in [idle, busy] {
        bench.instance.socket_closed(socket, &mut bench.host);
    }
    bench.wait(1_000_000);
    assert_eq!(bench.host.wake_at, None);
}

// HTTP-69, T17
#[test]
fn slow_and_idle_peers_are_not_waited_for() {
    let mut bench = Bench::routing(HttpSettings::default(), &["POST /a f"]);
    let slow = bench.request("GET /a HT");
    let idle = bench.connect();
    bench.wait(30_000);
    assert!(bench.output(slow).starts_with("HTTP/1.1 408 "));
    assert_eq!(bench.host.closed, [(slow, false)]);
    bench.wait(45_000);
    assert_eq!(bench.host.closed[1], (idle, false));
    let body = bench.request("POST /a HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{");
    bench.wait(10_000);
    assert!(bench.output(body).starts_with("HTTP/1.1 408 "));
}

// T17
#[test]
fn a_peer_that_reads_nothing_is_not_served_for_ever() {
    let mut bench = Bench::routing(HttpSettings::default(), &["GET /a f"]);
    let socket = bench.connect();
    let big = json!({"body": "x".repeat(400_000)});
    let mut served = 0;
    bench.send(socket, get("/a").repeat(100));
    while let Some(call) = bench.host.take_made().pop() {
        served += 1;
        bench.answer(&call, big.clone());
    }
    assert_eq!((served, bench.host.paused.as_slice()), (3, &[socket][..]));
    bench.output(socket);
    assert_eq!((bench.host.take_made().len(), bench.host.paused.len()), (1, 0));
}

#[test]
fn the_description_of_all_routes() {
    let mut bench = Bench::routing(HttpSettings::default(), &["GET /a/:x f"]);
    let socket = bench.request(&get("/openapi.json"));
    let call = bench.call();
    assert_eq!(call.function_id, "engine::functions::list");
    bench.answer(&call, json!({"functions": [{"function_id": "f", "description": "Does."}]}));
    let (status, body) = bench.response(socket);
    let document: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &document["paths"]["/a/{x}"]["get"]["summary"]), (200, &json!("Does.")));
}

impl Bench {
    fn response_of_unrouted(&mut self) -> u16 {
        let socket = self.request(&get("/unrouted"));
        self.response(socket).0
    }
}
