//! Routing against the tables of the contract, and against a model that tries every route.

use proptest::prelude::*;

use super::*;
use crate::http::route::RouteConfig;

fn route(owner: u64, trigger_id: &str, method: Method, path: &str) -> Route {
    Route {
        trigger_id: trigger_id.into(),
        owner: Owner::Connection(owner),
        config: RouteConfig::new(method, path),
        function_id: trigger_id.into(),
        namespace: "default".into(),
        metadata: None,
    }
}

fn routes(entries: &[(Method, &str)]) -> Routes {
    let mut routes = Routes::default();
    for (method, path) in entries {
        routes.register(route(1, &format!("{method} {path}"), *method, path)).unwrap();
    }
    routes
}

fn gets(paths: &[&str]) -> Routes {
    routes(&paths.iter().map(|path| (Method::Get, *path)).collect::<Vec<_>>())
}

/// `path-as-registered name=value ...`, `405 allow`, or `404`.
fn ask(routes: &Routes, method: &str, path: &str) -> String {
    match routes.table().lookup(Method::from_wire(method), path.as_bytes()) {
        Lookup::Found(entry) => {
            let mut text = entry.route.config.api_path.to_string();
            for (name, value) in entry.pattern.parameters(path.as_bytes()) {
                write!(text, " {name}={}", String::from_utf8_lossy(value)).unwrap();
            }
            text
        }
        Lookup::MethodNotAllowed(allow) => format!("405 {allow}"),
        Lookup::NotFound => "404".to_owned(),
    }
}

fn check(routes: &Routes, rows: &[(&str, &str)]) {
    for (path, expected) in rows {
        assert_eq!(ask(routes, "GET", path), *expected, "{path}");
    }
}

#[test]
fn parameters_take_one_raw_segment() {
    // HTTP-21, HTTP-22, HTTP-25; cases 8, 9, 10, 14
    check(
        &gets(&["users/:id", "/q/{id}", "/x/:a-b/y", "/dup/:n/:n"]),
        &[
            ("/users/42", "users/:id id=42"),
            ("/users/a%20b%2Fc", "users/:id id=a%20b%2Fc"),
            ("/users/", "404"),
            ("/users/42/", "404"),
            ("/users//42", "404"),
            ("/USERS/42", "404"),
            ("/q/5", "/q/{id} id=5"),
            ("/x/1/y", "/x/:a-b/y a-b=1"),
            ("/dup/1/2", "/dup/:n/:n n=2"),
        ],
    );
}

#[test]
fn literals_are_taken_by_the_letter() {
    // HTTP-21, HTTP-22, HTTP-24; cases 12, 13
    check(
        &gets(&["/slash/", "/enc/a b", "/col:on", "/pre/lit-:a", "/pre/static", "a*b", "//m/two", "/a//b"]),
        &[
            ("/slash/", "/slash/"),
            ("/slash", "404"),
            ("/enc/a%20b", "404"),
            ("/col:on", "/col:on"),
            ("/col:x", "404"),
            ("/pre/lit-:a", "/pre/lit-:a"),
            ("/pre/%73tatic", "404"),
            ("/a*b", "a*b"),
            ("//m/two", "//m/two"),
            ("/m/two", "404"),
            ("/a//b", "/a//b"),
            ("/a/b", "404"),
            ("/pre/../pre/static", "404"),
            ("*", "404"),
        ],
    );
}

#[test]
fn catch_alls_take_what_is_left() {
    // HTTP-22, HTTP-25; case 11
    check(
        &gets(&["/pre2/{*all}", "/star/*rest", "/bare/*", "/files2/{*rest}"]),
        &[
            ("/pre2", "404"),
            ("/pre2/", "404"),
            ("/pre2/a", "/pre2/{*all} all=a"),
            ("/pre2//", "/pre2/{*all} all=/"),
            ("/star/a/b/", "/star/*rest rest=a/b/"),
            ("/bare/x", "/bare/* *=x"),
            ("/files2/a/b", "/files2/{*rest} rest=a/b"),
        ],
    );
    check(&gets(&["*", "/"]), &[("/", "/"), ("/a/b", "* *=a/b")]);
}

#[test]
fn the_most_literal_route_wins_and_dead_ends_are_left() {
    // HTTP-23
    check(
        &gets(&["/pre/static", "/pre/:id/x", "/b/:id", "/b/{*rest}", "/c/:x/:y", "/c/l/{*r}", "/c/l/m/n"]),
        &[
            ("/pre/static", "/pre/static"),
            ("/pre/static/x", "/pre/:id/x id=static"),
            ("/b/5", "/b/:id id=5"),
            ("/b/5/y", "/b/{*rest} rest=5/y"),
            ("/b//", "/b/{*rest} rest=/"),
            ("/c/l/m", "/c/l/{*r} r=m"),
            ("/c/l/m/n", "/c/l/m/n"),
            ("/c/k/m", "/c/:x/:y x=k y=m"),
        ],
    );
}

#[test]
fn methods() {
    // HTTP-19, HTTP-54, HTTP-55; cases 15, 16, 20
    let routes = routes(&[
        (Method::Patch, "/m"),
        (Method::Delete, "/m"),
        (Method::Get, "/echo"),
        (Method::Post, "/echo"),
        (Method::Get, "/k/:a"),
        (Method::Post, "/k/:q"),
        (Method::Put, "/k/lit"),
        (Method::Head, "/head"),
        (Method::Options, "/opt"),
    ]);
    for (method, path, expected) in [
        ("GET", "/m", "405 DELETE,PATCH"),
        ("FOO", "/echo", "405 GET,HEAD,POST"),
        ("FOO", "/nope", "404"),
        ("HEAD", "/echo", "/echo"),
        ("HEAD", "/head", "/head"),
        ("GET", "/head", "405 HEAD"),
        ("GET", "/k/1", "/k/:a a=1"),
        ("POST", "/k/1", "/k/:q q=1"),
        ("POST", "/k/lit", "/k/:q q=lit"),
        ("PATCH", "/k/lit", "405 GET,HEAD,POST,PUT"),
        ("OPTIONS", "/opt", "/opt"),
        ("OPTIONS", "/echo", "405 GET,HEAD,POST"),
    ] {
        assert_eq!(ask(&routes, method, path), expected, "{method} {path}");
    }
    assert_eq!(routes.table().methods(b"/opt").to_string(), "OPTIONS");
    assert!(routes.table().methods(b"/nope").is_empty());
}

#[test]
fn trailing_slash_can_be_ignored() {
    // HTTP-4
    let table = gets(&["/a/:id", "/b/", "/"]).table();
    let found = |path: &str| match table.lookup_ignoring_slash(Some(Method::Get), path.as_bytes()) {
        Lookup::Found(entry) => {
            Some(entry.pattern.parameters(path.as_bytes()).map(|(_, value)| value.to_vec()).collect())
        }
        _ => None::<Vec<_>>,
    };
    assert_eq!(found("/a/5/"), Some(vec![b"5".to_vec()]));
    assert_eq!(found("/b"), Some(vec![]));
    assert_eq!(found("/"), Some(vec![]));
    assert_eq!(found("/a/5//"), None);
}

#[test]
fn what_cannot_be_routed_is_refused() {
    // HTTP-13, HTTP-19; case 54
    let mut routes = gets(&["/k/:a/:b", ""]);
    let mut refused = |path: &str| routes.register(route(2, "t", Method::Get, path)).unwrap_err().0;
    assert_eq!(
        refused("/k/:b/:a"),
        "Route 'GET /k/:b/:a' conflicts with already-registered route 'GET /k/:a/:b': routes with identical structure \
         but different path-parameter names are not supported"
    );
    assert!(refused("k/{a}/{b}").contains("conflict"));
    assert_eq!(refused("/x/:"), "Route 'GET /x/:' is not valid: a path parameter has no name");
    assert!(refused("/x/{}").contains("no name"));
    assert!(refused("/x/{*}").contains("no name"));
    assert!(refused("/x/*rest/y").contains("last segment"));
    assert!(refused("/x/a{b}").contains("whole segment"));
    assert!(refused("/x/{{b}}").contains("whole segment"));
    assert!(refused(&"/a".repeat(1000)).contains("too many segments"));
    assert!(refused(&"a".repeat(70_000)).contains("longer"));
    assert_eq!(ask(&routes, "GET", "/k/1/2"), "/k/:a/:b a=1 b=2");
    assert_eq!(routes.len(), 2);
    // The root in its two spellings is one key.
    routes.register(route(2, "t", Method::Get, "/")).unwrap();
    assert_eq!(ask(&routes, "GET", "/"), "/");
}

#[test]
fn the_newest_registration_of_a_key_serves_and_older_ones_wait() {
    // HTTP-15, HTTP-16, HTTP-18; case 55
    let mut routes = Routes::default();
    let served = |routes: &Routes| match routes.table().lookup(Some(Method::Get), b"/u/1") {
        Lookup::Found(entry) => entry.route.trigger_id.to_string(),
        _ => "404".to_owned(),
    };
    routes.register(route(1, "one", Method::Get, "u/:id")).unwrap();
    routes.register(route(2, "two", Method::Get, "/u/:id")).unwrap();
    assert_eq!(served(&routes), "two");
    assert!(!routes.unregister(Owner::Connection(1), "two"), "not its owner");
    assert_eq!(routes.unregister_owner(Owner::Connection(1)), 1);
    assert_eq!(served(&routes), "two");
    routes.register(route(3, "three", Method::Get, "u/:id")).unwrap();
    routes.register(route(4, "four", Method::Get, "//u/:id")).unwrap();
    assert_eq!(served(&routes), "404", "served as last registered, taken literally");
    assert!(routes.unregister(Owner::Connection(4), "four"));
    assert_eq!(served(&routes), "three");
    assert!(routes.unregister(Owner::Connection(3), "three"));
    assert_eq!(served(&routes), "two");
    assert!(routes.unregister(Owner::Connection(2), "two"));
    assert_eq!(served(&routes), "404");
    assert!(routes.is_empty() && routes.shapes.is_empty() && routes.stacks.is_empty());
}

#[test]
fn a_waiting_registration_keeps_its_shape() {
    // Otherwise it could not be served again when its turn comes (HTTP-16).
    let mut routes = Routes::default();
    routes.register(route(1, "one", Method::Get, "/u/:id")).unwrap();
    routes.register(route(2, "two", Method::Get, "//u/:id")).unwrap();
    assert!(routes.register(route(3, "three", Method::Get, "/u/:x")).unwrap_err().0.contains("conflict"));
    // Nor may the one in front of it take the shape with it to another key.
    assert!(routes.register(route(2, "two", Method::Get, "/u/{id}")).unwrap_err().0.contains("conflict"));
    routes.unregister_owner(Owner::Connection(2));
    assert_eq!(ask(&routes, "GET", "/u/1"), "/u/:id id=1");
}

#[test]
fn the_same_trigger_id_moves_its_route() {
    // HTTP-17
    let mut routes = Routes::default();
    for path in ["/old", "/new/:a", "/new/:b"] {
        routes.register(route(1, "t", Method::Get, path)).unwrap();
    }
    assert_eq!(ask(&routes, "GET", "/old"), "404");
    assert_eq!(ask(&routes, "GET", "/new/1"), "/new/:b b=1");
    assert_eq!(routes.len(), 1);
    // A refused change leaves what was there.
    assert!(routes.register(route(1, "t", Method::Get, "/*x/y")).is_err());
    assert_eq!(ask(&routes, "GET", "/new/1"), "/new/:b b=1");
}

#[test]
fn a_published_table_does_not_change() {
    // HTTP-18
    let mut routes = gets(&["/a", "/b/:c"]);
    let table = routes.table();
    routes.unregister_owner(Owner::Connection(1));
    assert!(matches!(table.lookup(Some(Method::Get), b"/b/1"), Lookup::Found(_)));
    assert_eq!(ask(&routes, "GET", "/b/1"), "404");
}

/// Literal, parameter, catch-all: compared from the left, the smallest is the best.
fn rank(pattern: &Pattern) -> Vec<u8> {
    let rank = |segment: &pattern::Segment| match segment {
        pattern::Segment::Literal(_) => 0,
        pattern::Segment::Parameter => 1,
        pattern::Segment::Rest => 2,
    };
    pattern.segments().iter().map(rank).collect()
}

fn naive_match(pattern: &str, path: &str) -> bool {
    let pattern: Vec<&str> = pattern.strip_prefix('/').unwrap_or(pattern).split('/').collect();
    let path: Vec<&str> = path[1..].split('/').collect();
    for (position, segment) in pattern.iter().enumerate() {
        if segment.starts_with('*') || segment.starts_with("{*") {
            return position < path.len() && !path[position..].join("/").is_empty();
        }
        let Some(given) = path.get(position) else { return false };
        let fits =
            if segment.starts_with(':') || segment.starts_with('{') { !given.is_empty() } else { segment == given };
        if !fits {
            return false;
        }
    }
    pattern.len() == path.len()
}

fn any_path(segment: &'static str) -> impl Strategy<Value = String> {
    prop::collection::vec(segment, 1..5).prop_map(|segments| format!("/{}", segments.join("/")))
}

/// Registrations and removals, in any order: owner, trigger, method, path; an empty path removes.
fn any_change() -> impl Strategy<Value = (u64, u8, Method, String)> {
    let method = prop_oneof![Just(Method::Get), Just(Method::Head), Just(Method::Post)];
    let path = prop_oneof![
        1 => Just(String::new()),
        4 => (any_path("a|b|:x|:y|\\{z\\}|"), "|/\\*|/\\*r|/\\{\\*r\\}").prop_map(|(path, rest)| path + &rest),
    ];
    (0u64..3, 0u8..4, method, path)
}

proptest! {
    #[test]
    fn equals_a_model_that_tries_every_route(
        changes in prop::collection::vec(any_change(), 0..24),
        paths in prop::collection::vec(any_path("a|b|c|"), 1..12),
    ) {
        let mut routes = Routes::default();
        // Living registrations, oldest first.
        let mut model: Vec<(u64, String, Method, String)> = Vec::new();
        for (owner, trigger, method, path) in changes {
            let trigger = format!("t{trigger}");
            let is_same = |entry: &(u64, String, Method, String)| entry.0 == owner && entry.1 == trigger;
            if path.is_empty() {
                let existed = model.iter().any(is_same);
                prop_assert_eq!(routes.unregister(Owner::Connection(owner), &trigger), existed);
                model.retain(|entry| !is_same(entry));
                continue;
            }
            let shape = Pattern::parse(&path).unwrap().shape();
            let conflicts = model.iter().any(|entry| !is_same(entry)
                && entry.2 == method
                && normalise(&entry.3) != normalise(&path)
                && Pattern::parse(&entry.3).unwrap().shape() == shape);
            let accepted = routes.register(route(owner, &trigger, method, &path)).is_ok();
            prop_assert_eq!(accepted, !conflicts, "{} {}", method, path);
            if accepted {
                model.retain(|entry| !is_same(entry));
                model.push((owner, trigger, method, path));
            }
        }
        prop_assert_eq!(routes.len(), model.len());

        let is_active = |position: usize| !model[position + 1..].iter()
            .any(|later| later.2 == model[position].2 && normalise(&later.3) == normalise(&model[position].3));
        let active: Vec<_> = (0..model.len()).filter(|position| is_active(*position)).map(|at| &model[at]).collect();
        for path in &paths {
            let fitting: Vec<_> = active.iter().filter(|entry| naive_match(&entry.3, path)).collect();
            for method in [Method::Get, Method::Head, Method::Post, Method::Put] {
                let answers = |entry: &(u64, String, Method, String)| {
                    entry.2 == method || (method == Method::Head && entry.2 == Method::Get)
                };
                let expected = fitting.iter().filter(|entry| answers(entry))
                    .min_by_key(|entry| (rank(&Pattern::parse(&entry.3).unwrap()), entry.2 != method));
                let mut allow = MethodSet::EMPTY;
                fitting.iter().for_each(|entry| allow.insert(entry.2));
                match (routes.table().lookup(Some(method), path.as_bytes()), expected) {
                    (Lookup::Found(entry), Some(expected)) => {
                        prop_assert_eq!(&entry.route.config.api_path[..], &expected.3, "{} {}", method, path);
                    }
                    (Lookup::MethodNotAllowed(set), None) => prop_assert_eq!(set, allow.allowed()),
                    (Lookup::NotFound, None) => prop_assert!(allow.is_empty()),
                    (lookup, expected) => prop_assert!(false, "{method} {path}: {lookup:?}, expected {expected:?}"),
                }
            }
        }
    }
}
