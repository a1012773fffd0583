//! `iii-stream` from outside: functions, browsers, triggers, providers, authentication (STREAM rules).

#![allow(clippy::disallowed_methods, reason = "tests run on threads of their own and may block them")]

mod support;

use std::time::{Duration, Instant};

use support::sdk::SDKS;
use support::socket::{CLOSE, PING, PONG, RawSocket};
use support::{Browser, Engine, PATIENCE, RawWorker, SHARD_COUNTS, Value, error_code, eventually, json};

const STREAMS: &str = "workers:
  - {name: iii-worker-manager, config: {port: {port}}}
  - {name: iii-stream, config: {port: 0}}
";

/// An engine with streams.
fn start(shards: u32) -> Engine {
    Engine::command(shards).config(STREAMS).start()
}

fn each_shard_count(body: impl Fn(&Engine)) {
    for shards in SHARD_COUNTS {
        eprintln!("--- shards: {shards}");
        body(&start(shards));
    }
}

fn item(stream: &str, group: &str, item: &str) -> Value {
    json!({"stream_name": stream, "group_id": group, "item_id": item})
}

fn with(mut payload: Value, name: &str, value: Value) -> Value {
    payload[name] = value;
    payload
}

fn set(worker: &mut RawWorker, (stream, group, id): (&str, &str, &str), data: Value) -> Value {
    worker.call("stream::set", with(item(stream, group, id), "data", data)).expect("set")
}

fn bind(worker: &mut RawWorker, id: &str, kind: &str, function_id: &str, config: Value) {
    worker.send(json!({
        "type": "registertrigger", "id": id, "trigger_type": kind, "function_id": function_id,
        "config": config, "metadata": {"m": 1},
    }));
    // Known to control once a later call is answered; the shards hear of it before they hear of that answer.
    worker.call("engine::functions::list", json!({"prefix": "nothing"})).expect("the list");
    std::thread::sleep(Duration::from_millis(50));
}

/// The next call of a function, answered.
fn handle(worker: &mut RawWorker, function_id: &str, result: Value) -> Value {
    let delivery =
        worker.take(function_id, |frame| frame["function_id"] == function_id && frame["type"] == "invokefunction");
    if delivery["invocation_id"].is_string() {
        worker.answer(&delivery, result);
    }
    delivery
}

// STREAM-10, STREAM-11, STREAM-15, STREAM-91, T1 to T6
#[test]
fn functions() {
    each_shard_count(|engine| {
        let mut worker = RawWorker::named(engine, "w");
        let at = item("s", "g", "i");
        let id = worker.invoke("stream::get", at.clone());
        let frame = worker.take("the answer", |frame| frame["invocation_id"] == id.as_str());
        assert!(frame.get("result").is_none() && frame.get("error").is_none(), "absent is no result: {frame}");
        assert_eq!(
            set(&mut worker, ("s", "g", "i"), json!({"a": 1})),
            json!({"old_value": null, "new_value": {"a": 1}})
        );
        let ops = json!([{"type": "merge", "path": ["s", "x"], "value": {"ts": 1}}]);
        assert_eq!(
            worker.call("stream::update", with(at.clone(), "ops", ops)),
            Ok(json!({"old_value": {"a": 1}, "new_value": {"a": 1, "s": {"x": {"ts": 1}}}}))
        );
        let failed = worker
            .call("stream::update", with(at.clone(), "ops", json!([{"type": "set", "path": "__proto__", "value": 1}])));
        assert_eq!(failed.expect("best effort")["errors"][0]["code"], "set.path.proto_polluted");
        set(&mut worker, ("s", "g", "j"), Value::Null);
        assert_eq!(
            worker.call("stream::list", json!({"stream_name": "s", "group_id": "g"})).expect("list")[1],
            Value::Null
        );
        assert_eq!(worker.call("stream::list", json!({"stream_name": "s", "group_id": "none"})), Ok(json!([])));
        // The same text, cut at another place, is another group.
        set(&mut worker, ("a", "b:c", "i"), json!(1));
        set(&mut worker, ("a:b", "c", "i"), json!(2));
        for group in ["z", "y", "x"] {
            set(&mut worker, ("s", group, "i"), json!(0));
        }
        assert_eq!(worker.call("stream::list_groups", json!({"stream_name": "s"})), Ok(json!(["g", "x", "y", "z"])));
        assert_eq!(
            worker.call("stream::list_all", json!({})),
            Ok(json!({"count": 3, "stream": [
                {"id": "a", "groups": ["b:c"]}, {"id": "a:b", "groups": ["c"]}, {"id": "s", "groups": ["g", "x", "y", "z"]},
            ]}))
        );
        assert_eq!(worker.call("stream::delete", item("s", "z", "i")), Ok(json!({"old_value": 0})));
        assert_eq!(worker.call("stream::delete", item("s", "z", "i")), Ok(json!({"old_value": null})));
        assert_eq!(worker.call("stream::list_groups", json!({"stream_name": "s"})), Ok(json!(["g", "x", "y"])));
        let failed = worker.call("stream::set", with(at, "value", json!(1)));
        assert_eq!(error_code(&failed), "deserialization_error");
        let message = failed.unwrap_err()["message"].to_string();
        assert!(message.contains("Failed to deserialize input for stream::set: missing field `data`"), "{message}");
        assert_eq!(worker.call("iii-stream::on-config-change", json!({})), Ok(json!({})));
    });
}

// STREAM-60 to STREAM-64, section 4.3, T7, T15, T16
#[test]
fn browsers_see_what_happens() {
    each_shard_count(|engine| {
        let mut worker = RawWorker::named(engine, "w");
        let mut browser = Browser::connect(engine);
        assert_eq!(browser.joined("all", "s", "g", None), json!([]));
        assert_eq!(browser.joined("one", "s", "g", Some("i")), Value::Null);
        set(&mut worker, ("s", "g", "j"), json!(1));
        assert_eq!(browser.event(), (json!("j"), "create".to_owned(), json!(1)));
        set(&mut worker, ("s", "g", "i"), json!({"n": 1}));
        for _ in 0..2 {
            assert_eq!(
                browser.event(),
                (json!("i"), "create".to_owned(), json!({"n": 1})),
                "one frame per subscription"
            );
        }
        let sent = json!({"stream_name": "s", "group_id": "g", "type": "typing", "data": {"u": 1}});
        let id = worker.invoke("stream::send", sent);
        let frame = worker.take("the answer", |frame| frame["invocation_id"] == id.as_str());
        assert_eq!(frame.get("result"), Some(&Value::Null), "present and null: {frame}");
        let message = browser.next();
        assert_eq!(message["event"], json!({"type": "event", "event": {"type": "typing", "data": {"u": 1}}}));
        assert_eq!(message["id"], Value::Null);
        browser.leave("all", "s", "g");
        assert_eq!(browser.joined("one", "s", "h", None), json!([]), "the same id: replaced");
        worker.call("stream::delete", item("s", "g", "i")).expect("delete");
        set(&mut worker, ("s", "h", "k"), json!(2));
        assert_eq!(browser.event(), (json!("k"), "create".to_owned(), json!(2)));
        worker.call("stream::delete", item("s", "h", "k")).expect("delete");
        assert_eq!(browser.event(), (json!("k"), "delete".to_owned(), json!(2)));
        worker.call("stream::delete", item("s", "h", "k")).expect("delete");
        browser.expect_silence();
        let mut late = Browser::connect(engine);
        assert_eq!(late.joined("x", "s", "g", None), json!([1]));
    });
}

// STREAM-30, STREAM-33, STREAM-50, STREAM-DB-4
#[test]
fn the_listener() {
    let engine = start(1);
    let port = engine.stream_port();
    for (request, status, body) in [
        ("GET /x HTTP/1.1\r\nHost: h\r\n\r\n", 404, ""),
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", 400, "Connection header did not include 'upgrade'"),
    ] {
        let mut socket = RawSocket::tcp(port);
        socket.write(request.as_bytes());
        let answer = socket.read_http();
        assert_eq!((answer.status, answer.body.as_str()), (status, body), "{request}");
    }
    let mut browser = Browser::open(&engine, "/?token=1");
    for text in ["", "{", "[]", r#"{"type":"Join","data":{}}"#, r#"{"type":"join","data":{"streamName":"s"}}"#] {
        browser.socket.write_text(text);
    }
    let join = json!({"type": "join", "data": {"subscriptionId": "1", "streamName": "s", "groupId": "g"}}).to_string();
    browser.socket.write_frame(support::socket::BINARY, join.as_bytes());
    assert_eq!(browser.next()["event"]["type"], "sync");
    browser.socket.write_frame(PING, b"x");
    let pong = browser.socket.read_frame().expect("a pong");
    assert_eq!((pong.opcode, &*pong.payload), (PONG, &b"x"[..]));
    browser.expect_silence();
    browser.socket.write_frame(CLOSE, &1000_u16.to_be_bytes());
    assert_eq!(browser.close_code(), Some(1000));

    let mut worker = RawWorker::named(&engine, "w");
    set(&mut worker, ("s p", "g", "i"), json!(1));
    for (path, state) in
        [("/stream/s%20p/g/", json!([1])), ("/stream/s%20p/g", json!([1])), ("/stream/s%20p/g/i", json!(1))]
    {
        let mut browser = Browser::open(&engine, path);
        assert_eq!(browser.next()["event"], json!({"type": "sync", "data": state}), "{path}");
    }
}

// Decision 3
#[test]
fn a_stop_says_going_away() {
    for shards in SHARD_COUNTS {
        let mut engine = start(shards);
        let mut browser = Browser::connect(&engine);
        browser.joined("1", "s", "g", None);
        engine.signal(libc::SIGTERM);
        assert_eq!(browser.close_code(), Some(1001));
        assert!(engine.terminated().success());
    }
}

// STREAM-70 to STREAM-73, T14
#[test]
fn stream_triggers() {
    each_shard_count(|engine| {
        let mut worker = RawWorker::serving(engine, "w", &["w::all", "w::one", "w::never", "w::no"]);
        bind(&mut worker, "t1", "stream", "w::all", json!({"stream_name": "s"}));
        bind(&mut worker, "t2", "stream", "w::one", json!({"stream_name": "s", "group_id": "g", "item_id": "i"}));
        bind(&mut worker, "t3", "stream", "w::never", json!({"stream_name": "s", "condition_function_id": "w::no"}));
        worker.send(json!({"type": "registertrigger", "id": "t4", "trigger_type": "stream", "function_id": "w::all", "config": {}}));
        let refusal = worker.take("refusal", |frame| frame["type"] == "triggerregistrationresult");
        assert_eq!(refusal["error"]["code"], "trigger_registration_failed");
        let message = refusal["error"]["message"].to_string();
        assert!(message.contains("missing field `stream_name`"), "{message}");

        let id = worker.invoke("stream::set", with(item("s", "g", "i"), "data", json!(1)));
        let told = handle(&mut worker, "w::all", Value::Null);
        assert_eq!(told["data"]["event"], json!({"type": "create", "data": 1}));
        assert_eq!(
            (&told["data"]["streamName"], &told["data"]["groupId"], &told["data"]["id"]),
            (&json!("s"), &json!("g"), &json!("i"))
        );
        assert_eq!(told["metadata"], json!({"m": 1}));
        handle(&mut worker, "w::one", Value::Null);
        let asked = handle(&mut worker, "w::no", json!(false));
        assert_eq!(asked["data"]["type"], "stream");
        worker.result(&id).expect("set");
        worker
            .call("stream::send", json!({"stream_name": "s", "group_id": "x", "type": "t", "data": 1, "id": "i"}))
            .expect("send");
        assert_eq!(
            handle(&mut worker, "w::all", Value::Null)["data"]["event"]["event"],
            json!({"type": "t", "data": 1})
        );
        handle(&mut worker, "w::no", json!(false));
        worker.expect_silence();
    });
}

// STREAM-60, STREAM-64, STREAM-65, STREAM-74 to STREAM-76, STREAM-DB-6, T12, T13, T17
#[test]
fn join_and_leave_triggers() {
    each_shard_count(|engine| {
        let mut worker = RawWorker::serving(engine, "w", &["w::join", "w::leave", "w::other"]);
        bind(&mut worker, "t1", "stream:join", "w::join", json!({}));
        bind(&mut worker, "t2", "stream:leave", "w::leave", json!({"stream_name": "s"}));
        bind(&mut worker, "t3", "stream:join", "w::other", json!({"stream_name": "other"}));
        let mut browser = Browser::connect(engine);
        browser.join("1", "s", "g", Some("i"));
        let asked = handle(&mut worker, "w::join", json!({"unauthorized": true}));
        assert_eq!(
            asked["data"],
            json!({"subscription_id": "1", "stream_name": "s", "group_id": "g", "id": "i", "context": null})
        );
        assert_eq!(asked["metadata"], json!({"m": 1}));
        let refused = browser.next();
        assert_eq!(refused["event"], json!({"type": "unauthorized"}));
        assert_eq!((&refused["streamName"], &refused["id"]), (&json!("s"), &json!("i")));
        for (id, answer) in [("2", json!({"unauthorized": "yes"})), ("3", json!({})), ("4", Value::Null)] {
            browser.join(id, "s", "g", None);
            handle(&mut worker, "w::join", answer);
            assert_eq!(browser.next()["event"]["type"], "sync");
        }
        // A failing handler permits.
        browser.join("5", "s", "g", None);
        let delivery = worker.take("join", |frame| frame["function_id"] == "w::join");
        worker.fail(&delivery, json!({"code": "X", "message": "no"}));
        assert_eq!(browser.next()["event"]["type"], "sync");
        browser.leave("unknown", "s", "h");
        assert_eq!(handle(&mut worker, "w::leave", Value::Null)["data"]["group_id"], "h");
        browser.leave("5", "s", "g");
        assert_eq!(handle(&mut worker, "w::leave", Value::Null)["data"]["subscription_id"], "5");
        drop(browser);
        let mut left: Vec<Value> =
            (0..3).map(|_| handle(&mut worker, "w::leave", Value::Null)["data"]["subscription_id"].clone()).collect();
        left.sort_by_key(Value::to_string);
        assert_eq!(left, [json!("2"), json!("3"), json!("4")]);
        worker.expect_silence();
    });
}

// STREAM-20 to STREAM-25, STREAM-DB-7, T8 to T11
#[test]
fn a_worker_provides_a_stream() {
    each_shard_count(|engine| {
        let ids = ["get", "set", "delete", "list", "list_groups"].map(|op| format!("stream::{op}(c)"));
        let ids = ids.each_ref().map(String::as_str);
        let mut provider = RawWorker::serving(engine, "p", &ids);
        let mut worker = RawWorker::named(engine, "w");
        let mut browser = Browser::connect(engine);
        browser.join("1", "c", "g", None);
        assert_eq!(handle(&mut provider, ids[3], json!(["x"]))["data"], json!({"stream_name": "c", "group_id": "g"}));
        assert_eq!(browser.next()["event"], json!({"type": "sync", "data": ["x"]}));

        let call = worker.invoke("stream::set", with(item("c", "g", "i"), "data", json!(1)));
        let asked = handle(&mut provider, ids[1], json!({"new_value": 7}));
        assert_eq!(asked["data"], with(item("c", "g", "i"), "data", json!(1)), "nothing injected");
        assert_eq!(worker.result(&call), Ok(json!({"old_value": null, "new_value": 7})));
        assert_eq!(browser.event(), (json!("i"), "create".to_owned(), json!(7)));

        let call = worker.invoke("stream::get", item("c", "g", "i"));
        handle(&mut provider, ids[0], json!("anything"));
        assert_eq!(worker.result(&call), Ok(json!("anything")));

        // No provider of `update`: read and write go through the provider's own functions.
        let ops = json!([{"type": "increment", "path": "n", "by": 2}]);
        let call = worker.invoke("stream::update", with(item("c", "g", "i"), "ops", ops));
        handle(&mut provider, ids[0], json!({"n": 1}));
        let stored = handle(&mut provider, ids[1], json!({"old_value": {"n": 1}, "new_value": {"n": 3}}));
        assert_eq!(stored["data"]["data"], json!({"n": 3}));
        assert_eq!(worker.result(&call), Ok(json!({"old_value": {"n": 1}, "new_value": {"n": 3}})));
        assert_eq!(browser.event(), (json!("i"), "update".to_owned(), json!({"n": 3})));

        let call = worker.invoke("stream::set", with(item("c", "g", "i"), "data", json!(1)));
        handle(&mut provider, ids[1], Value::Null);
        assert_eq!(error_code(&worker.result(&call)), "STREAM_SET_ERROR");
        let call = worker.invoke("stream::delete", item("c", "g", "i"));
        handle(&mut provider, ids[2], json!({"old_value": 5}));
        assert_eq!(worker.result(&call), Ok(json!({"old_value": 5})));
        assert_eq!(browser.event(), (json!("i"), "delete".to_owned(), json!(5)));
        let call = worker.invoke("stream::list_groups", json!({"stream_name": "c"}));
        handle(&mut provider, ids[4], json!(["q"]));
        assert_eq!(worker.result(&call), Ok(json!(["q"])));
        assert_eq!(worker.call("stream::list_all", json!({})).expect("list")["count"], 0, "STREAM-25");

        provider.vanish();
        engine.wait_until_gone(ids[1]);
        assert_eq!(set(&mut worker, ("c", "g", "i"), json!(9)), json!({"old_value": null, "new_value": 9}));
        assert_eq!(browser.event(), (json!("i"), "create".to_owned(), json!(9)));
    });
}

const GUARDED: &str = "workers:
  - {name: iii-worker-manager, config: {port: {port}}}
  - {name: iii-stream, config: {port: 0, auth_function: auth::stream}}
";

/// Opens a socket and returns what the auth function was called with, after it answered.
fn knock(engine: &Engine, guard: &mut RawWorker, answer: Result<Value, Value>) -> (Value, RawSocket) {
    let mut socket = RawSocket::tcp(engine.stream_port());
    let request = support::socket::upgrade_request("/?token=abc&x=1&x=2&flag")
        .replace("\r\n\r\n", "\r\nAuthorization: Bearer t\r\n\r\n");
    socket.write(request.as_bytes());
    let delivery = guard.take("the question", |frame| frame["function_id"] == "auth::stream");
    match answer {
        Ok(result) => guard.answer(&delivery, result),
        Err(error) => guard.fail(&delivery, error),
    }
    (delivery["data"].clone(), socket)
}

// STREAM-40 to STREAM-43, STREAM-DB-1
#[test]
fn authentication_fails_closed() {
    for shards in SHARD_COUNTS {
        let engine = Engine::command(shards).config(GUARDED).start();
        let mut nobody = RawSocket::tcp(engine.stream_port());
        nobody.write(support::socket::upgrade_request("/").as_bytes());
        assert_eq!(nobody.read_http().status, 503, "the function is missing");

        let mut guard = RawWorker::serving(&engine, "guard", &["auth::stream", "w::join"]);
        let (asked, mut socket) = knock(&engine, &mut guard, Ok(json!({"context": {"user": 1}, "more": 2})));
        assert_eq!(asked["headers"]["authorization"], "Bearer t");
        assert_eq!(asked["query_params"], json!({"token": ["abc"], "x": ["1", "2"], "flag": [""]}));
        assert_eq!(asked["path"], "/");
        let port = socket.stream.local_addr().expect("connected").port();
        assert_eq!(asked["addr"], format!("127.0.0.1:{port}"));
        assert_eq!(socket.read_http().status, 101);
        let mut browser = Browser { socket };
        bind(&mut guard, "t", "stream:join", "w::join", json!({}));
        browser.join("1", "s", "g", None);
        assert_eq!(handle(&mut guard, "w::join", Value::Null)["data"]["context"], json!({"user": 1}));
        assert_eq!(browser.next()["event"]["type"], "sync");

        for (answer, status) in [
            (Ok(json!({"unauthorized": true})), 401),
            (Err(json!({"code": "X", "message": "thrown"})), 401),
            (Ok(Value::Null), 101),
            (Ok(json!("shapeless")), 101),
        ] {
            let (_, mut socket) = knock(&engine, &mut guard, answer.clone());
            assert_eq!(socket.read_http().status, status, "{answer:?}");
        }
        // One that hangs delays nobody else.
        let mut hanging = RawSocket::tcp(engine.stream_port());
        hanging.write(support::socket::upgrade_request("/").as_bytes());
        guard.take("the question", |frame| frame["function_id"] == "auth::stream");
        let (_, mut socket) = knock(&engine, &mut guard, Ok(json!({})));
        assert_eq!(socket.read_http().status, 101);
        drop(hanging);
    }
}

// STREAM-DB-3
#[test]
fn a_burst_arrives_whole_and_in_order() {
    const UPDATES: u64 = 2_000;
    each_shard_count(|engine| {
        let mut worker = RawWorker::named(engine, "w");
        let mut browsers: Vec<Browser> = (0..4).map(|_| Browser::connect(engine)).collect();
        for browser in &mut browsers {
            browser.joined("1", "s", "g", None);
        }
        for n in 0..UPDATES {
            let data = with(item("s", "g", "i"), "data", json!(n));
            worker.queue(&json!({"type": "invokefunction", "function_id": "stream::set", "data": data, "action": {"type": "void"}}));
        }
        worker.flush();
        for browser in &mut browsers {
            for n in 0..UPDATES {
                assert_eq!(browser.event().2, json!(n));
            }
        }
        assert_eq!(worker.call("stream::get", item("s", "g", "i")), Ok(json!(UPDATES - 1)));
    });
}

// STREAM-DB-2, STREAM-DB-3: a browser that does not read delays nobody; when it reads again it gets the state.
#[test]
fn a_slow_browser_is_synchronised_anew() {
    each_shard_count(|engine| {
        let mut worker = RawWorker::named(engine, "w");
        let mut slow = Browser::connect(engine);
        slow.joined("1", "s", "g", None);
        let mut quick = Browser::connect(engine);
        quick.joined("1", "s", "g", None);
        let ballast = "x".repeat(100_000);
        let started = Instant::now();
        for n in 0..200 {
            set(&mut worker, ("s", "g", "i"), json!({"n": n, "ballast": ballast}));
            assert_eq!(quick.event().2["n"], n);
        }
        eprintln!("200 updates beside a slow browser: {:?}", started.elapsed());
        let mut last = -1;
        let mut synced = false;
        let deadline = Instant::now() + PATIENCE;
        while last != 199 {
            let (_, kind, data) = slow.event();
            let data = if kind == "sync" { data[0].clone() } else { data };
            synced |= kind == "sync";
            let n = data["n"].as_i64().expect("a number");
            assert!(n > last || (kind == "sync" && n >= last), "{n} after {last}");
            last = n;
            assert!(Instant::now() < deadline);
        }
        assert!(synced, "some updates were left out, so the state was sent");
        set(&mut worker, ("s", "g", "i"), json!({"n": 200}));
        assert_eq!(slow.event().2["n"], 200, "and from then on updates again");
    });
}

// STREAM-83's neighbour, decision 1: a taken port ends the start.
#[test]
fn a_taken_port_ends_the_start() {
    let lease = support::ports::lease();
    let _taken = std::net::TcpListener::bind(("127.0.0.1", lease.port)).expect("the port was free");
    let config = format!(
        "workers:\n  - {{name: iii-worker-manager, config: {{port: {{port}}}}}}\n  - {{name: iii-stream, config: {{port: {}}}}}\n",
        lease.port
    );
    let own = support::ports::lease();
    let ended = Engine::command(1).config(&config).run_to_end(own.port);
    assert_eq!(ended.status.code(), Some(1), "{}", ended.output);
    assert!(ended.output.contains(&lease.port.to_string()), "{}", ended.output);
}

// Issue 7: subscriptions come and go without leaving anything.
#[test]
fn nothing_is_left_of_browsers_that_left() {
    let engine = start(4);
    let mut worker = RawWorker::named(&engine, "w");
    for round in 0..3 {
        let mut browsers: Vec<Browser> = (0..50).map(|_| Browser::connect(&engine)).collect();
        for browser in &mut browsers {
            browser.joined("1", "s", "g", None);
        }
        set(&mut worker, ("s", "g", "i"), json!(round));
        drop(browsers);
        worker.call("stream::delete", item("s", "g", "i")).expect("delete");
    }
    eventually("the engine has let go of all sockets", || (engine.open_descriptors() < 100).then_some(()));
}

// T1 to T11 with the released SDKs: their calls, triggers and own streams.
#[test]
fn released_sdks() {
    each_shard_count(|engine| {
        for sdk in SDKS {
            let label = sdk.label();
            eprintln!("{label}");
            let mut worker = sdk.worker_of(engine, &label, "stream");
            let mut browser = Browser::connect(engine);
            assert_eq!(browser.joined("1", &label, "g", None), json!([]));
            let at = item(&label, "g", "i");
            assert_eq!(worker.call("stream::get", at.clone()), Ok(Value::Null));
            let stored = worker.call("stream::set", with(at.clone(), "data", json!({"a": 1})));
            assert_eq!(stored, Ok(json!({"old_value": null, "new_value": {"a": 1}})));
            assert_eq!(worker.handled("changed")["event"], json!({"type": "create", "data": {"a": 1}}));
            let ops = json!([{"type": "merge", "path": ["s", "x"], "value": {"ts": 1}}]);
            let updated = worker.call("stream::update", with(at.clone(), "ops", ops)).expect("update");
            assert_eq!(updated["new_value"], json!({"a": 1, "s": {"x": {"ts": 1}}}));
            assert_eq!(worker.handled("changed")["event"]["type"], "update");
            let sent = json!({"stream_name": label, "group_id": "g", "type": "typing", "data": {"u": 1}});
            assert_eq!(worker.call("stream::send", sent), Ok(Value::Null));
            assert_eq!(worker.handled("changed")["event"]["event"], json!({"type": "typing", "data": {"u": 1}}));
            assert_eq!(worker.call("stream::list_groups", json!({"stream_name": label})), Ok(json!(["g"])));
            let removed = worker.call("stream::delete", at.clone()).expect("delete");
            assert_eq!(removed["old_value"]["a"], 1);
            assert_eq!(worker.call("stream::delete", at), Ok(json!({"old_value": null})));
            let kinds: Vec<String> = (0..4).map(|_| browser.event().1).collect();
            assert_eq!(kinds, ["create", "update", "event", "delete"]);

            let own = format!("{label}-own");
            let at = item(&own, "g", "i");
            assert_eq!(browser.joined("2", &own, "g", None), json!([]));
            let stored = worker.call("stream::set", with(at.clone(), "data", json!({"n": 1}))).expect("set");
            assert_eq!(stored["new_value"], json!({"n": 1}));
            assert_eq!(browser.event(), (json!("i"), "create".to_owned(), json!({"n": 1})));
            let ops = json!([{"type": "increment", "path": "n", "by": 4}]);
            let updated = worker.call("stream::update", with(at.clone(), "ops", ops)).expect("update");
            assert_eq!((&updated["old_value"], &updated["new_value"]), (&json!({"n": 1}), &json!({"n": 5})));
            assert_eq!(worker.call("stream::get", at.clone()), Ok(json!({"n": 5})), "STREAM-DB-7: one storage");
            assert_eq!(
                worker.call("stream::list", json!({"stream_name": own, "group_id": "g"})),
                Ok(json!([{"n": 5}]))
            );
            assert_eq!(worker.call("stream::list_groups", json!({"stream_name": own})), Ok(json!(["own"])));
            assert_eq!(worker.call("stream::delete", at).expect("delete")["old_value"], json!({"n": 5}));
        }
    });
}

// STREAM-44, STREAM-81: a change of the settings keeps items, sockets and subscriptions.
#[test]
fn a_reload_keeps_what_is_there() {
    for shards in SHARD_COUNTS {
        let port = support::ports::lease();
        let config = STREAMS.replace("port: 0", &format!("port: {}", port.port));
        let engine = Engine::command(shards).config(&config).start();
        let mut worker = RawWorker::serving(&engine, "w", &["w::changed"]);
        bind(&mut worker, "t", "stream", "w::changed", json!({"stream_name": "s"}));
        set(&mut worker, ("s", "g", "i"), json!(1));
        handle(&mut worker, "w::changed", Value::Null);
        let mut browser = Browser { socket: RawSocket::open(port.port, "/") };
        assert_eq!(browser.joined("1", "s", "g", None), json!([1]));
        engine.configure(
            &config
                .replace(&format!("port: {}}}", port.port), &format!("port: {}, auth_function: no::such}}", port.port)),
        );
        engine.wait_for_log("reload: success");
        assert_eq!(browser.next()["event"], json!({"type": "sync", "data": [1]}), "the state, again");
        set(&mut worker, ("s", "g", "i"), json!(2));
        assert_eq!(browser.event(), (json!("i"), "update".to_owned(), json!(2)));
        assert_eq!(handle(&mut worker, "w::changed", Value::Null)["data"]["event"]["data"], 2);
        let mut refused = RawSocket::tcp(port.port);
        refused.write(support::socket::upgrade_request("/").as_bytes());
        assert_eq!(refused.read_http().status, 503, "new sockets meet the new settings");
    }
}
