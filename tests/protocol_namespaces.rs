//! Namespaces: fixed per connection, strict in routing.

mod support;

use support::{Engine, RawWorker, each_shard_count, error_code, json};

fn worker_in(engine: &Engine, namespace: &str, functions: &[&str]) -> RawWorker {
    let mut worker = RawWorker::connect(engine);
    worker.announce(json!({
        "runtime": "python", "version": "0.25.0", "name": format!("worker-of-{namespace}"), "namespace": namespace,
    }));
    for id in functions {
        worker.register(id);
    }
    worker.confirm_in(functions, Some(namespace));
    worker
}

fn call_in(caller: &mut RawWorker, namespace: &str, function: &str) -> String {
    let id = caller.fresh_id();
    caller.send(json!({
        "type": "invokefunction", "invocation_id": id, "function_id": function, "data": {}, "namespace": namespace,
    }));
    id
}

// PROTO-60, PROTO-139: the namespace of the call decides, not the caller's.
#[test]
fn routing_is_strict() {
    each_shard_count(|engine| {
        let mut orders = worker_in(engine, "orders", &["f"]);
        let mut bills = worker_in(engine, "bills", &["f"]);
        let mut caller = RawWorker::named(engine, "caller");
        for (namespace, provider) in [("orders", &mut orders), ("bills", &mut bills)] {
            let call = call_in(&mut caller, namespace, "f");
            let delivery = provider.expect("invokefunction");
            assert!(delivery.get("namespace").is_none(), "section 4.2: deliveries carry no namespace");
            provider.answer(&delivery, json!(namespace));
            assert_eq!(caller.result(&call), Ok(json!(namespace)));
        }
        // Without a namespace the target is `default`, also for a caller that lives in `orders`.
        let message = "Function f not found in namespace default. It is registered in namespace(s): bills, orders.";
        let error = json!({"code": "function_not_found", "message": message});
        assert_eq!(caller.call("f", json!({})), Err(error.clone()));
        assert_eq!(orders.call("f", json!({})), Err(error));
        let call = call_in(&mut caller, "nowhere", "g");
        let message = "Function g not found in namespace nowhere.";
        assert_eq!(caller.result(&call), Err(json!({"code": "function_not_found", "message": message})));
    });
}

// PROTO-60: engine functions live in `default`, named or not.
#[test]
fn engine_functions_live_in_default() {
    each_shard_count(|engine| {
        let mut orders = worker_in(engine, "orders", &[]);
        let call = call_in(&mut orders, "default", "engine::functions::list");
        assert!(orders.result(&call).is_ok());
        assert!(orders.call("engine::functions::list", json!({})).is_ok());
        let call = call_in(&mut orders, "orders", "engine::functions::list");
        assert_eq!(error_code(&orders.result(&call)), "function_not_found");
    });
}

// PROTO-42: the first announcement fixes the namespace; later ones change the rest.
#[test]
fn the_first_namespace_wins() {
    each_shard_count(|engine| {
        let mut worker = worker_in(engine, "orders", &["f"]);
        let again = json!({"runtime": "python", "version": "0.25.0", "name": "renamed", "namespace": "bills"});
        assert_eq!(worker.call("engine::workers::register", again), Ok(json!({"success": true})));
        worker.register("g");
        worker.confirm_in(&["f", "g"], Some("orders"));
        let call = call_in(&mut worker, "bills", "g");
        assert_eq!(error_code(&worker.result(&call)), "function_not_found");
        let listed = worker.call("engine::workers::list", json!({"search": "renamed"})).expect("the list");
        assert_eq!(listed["workers"][0]["namespace"], "orders");
    });
}

// PROTO-44, ENG-34: a blank namespace is an error, and the namespace stays open.
#[test]
fn a_blank_namespace_is_refused() {
    each_shard_count(|engine| {
        let mut worker = RawWorker::connect(engine);
        let outcome = worker.call("engine::workers::register", json!({"name": "x", "namespace": " "}));
        let message = r#"namespace is empty: worker 'x' declared " ". Give it a name, or omit the field to register in 'default'."#;
        assert_eq!(outcome, Err(json!({"code": "INVALID_NAMESPACE", "message": message})));
        let register = json!({"runtime": "node", "version": "0.23.0", "name": "x", "namespace": "orders"});
        assert_eq!(worker.call("engine::workers::register", register), Ok(json!({"success": true})));
        worker.register("f");
        worker.confirm_in(&["f"], Some("orders"));
    });
}

// PROTO-60: one id in two namespaces: unregistering one leaves the other.
#[test]
fn the_same_id_lives_twice() {
    each_shard_count(|engine| {
        let mut orders = worker_in(engine, "orders", &["f"]);
        let mut default = RawWorker::serving(engine, "default-worker", &["f"]);
        orders.send(json!({"type": "unregisterfunction", "id": "f"}));
        let call = call_in(&mut orders, "orders", "f");
        assert_eq!(error_code(&orders.result(&call)), "function_not_found");
        default.confirm(&["f"]);
    });
}
