//! Whole files through the whole pipeline: what is accepted, what becomes of it, and the exact text of what is refused.

use std::ffi::OsString;
use std::path::Path;

use iii::config::settings::{QueueAdapter, StateAdapter, StoreMethod, WorkerSettings};
use iii::config::{self, Choice, Config, NoteLevel, Overrides, Surroundings, Watch, Worker, WorkerKind};

/// An environment with `B=x`, `E=` and nothing else; one custom class, one installed worker, four CPUs.
fn surroundings() -> Surroundings {
    Surroundings {
        variable: Box::new(|name| match name {
            "B" => Some(OsString::from("x")),
            "E" => Some(OsString::new()),
            _ => None,
        }),
        installed: Box::new(|name| name == "installed-worker"),
        custom_classes: vec!["my::CustomQueueModule".to_owned()],
        cpus: 4,
        directory: "tests/fixtures/config".into(),
    }
}

fn read(text: &str) -> Config {
    match config::parse_text(Path::new("c.yaml"), text.to_owned(), &surroundings()) {
        Ok((config, _)) => config,
        Err(error) => panic!("{text}\n{error}"),
    }
}

fn notes(text: &str) -> Vec<String> {
    let (_, notes) = config::parse_text(Path::new("c.yaml"), text.to_owned(), &surroundings()).expect("valid");
    notes.into_iter().map(|note| note.text).collect()
}

fn refusal(text: &str) -> String {
    let error = config::parse_text(Path::new("c.yaml"), text.to_owned(), &surroundings()).expect_err(text);
    error.to_string()
}

fn first_line(text: &str) -> String {
    refusal(text).lines().next().expect("some text").to_owned()
}

fn declared(config: &Config) -> Vec<&str> {
    config.workers.iter().filter(|worker| worker.declared).map(|worker| worker.id.as_str()).collect()
}

fn worker<'a>(config: &'a Config, id: &str) -> &'a Worker {
    config.workers.iter().find(|worker| worker.id == id).unwrap_or_else(|| panic!("no worker {id}"))
}

fn load_fixture(name: &str) -> Config {
    let choice = Choice::File(Path::new("tests/fixtures/config").join(name));
    config::load(&choice, &Overrides::default(), &surroundings()).unwrap_or_else(|error| panic!("{error}")).config
}

/// CFG-16, case 5.
#[test]
fn cfg_16_no_entries_means_the_mandatory_workers() {
    for text in ["", "# only a comment\n", "workers:\n", "workers: []\n", "modules: ~\nworkers: []\n"] {
        let ids: Vec<String> = read(text).workers.into_iter().map(|worker| worker.id).collect();
        assert_eq!(
            ids,
            ["iii-engine-functions", "iii-observability", "configuration", "iii-worker-manager"],
            "{text:?}"
        );
    }
}

/// CFG-17, CFG-19, CFG-21, CFG-27, CFG-38; cases 6, 7, 8, 13, 45.
#[test]
fn cfg_19_first_lines() {
    let http = |setting: &str| format!("workers:\n  - name: iii-http\n    config:\n      {setting}\n");
    let known = "expected one of 'workers', 'modules', 'port', 'host', 'shards', 'duplicate_functions', \
                 'worker_names', 'max_invocation_ms', 'registration_namespace_grace_ms', 'stop_grace_ms', 'rootfs'";
    for (text, expected) in [
        ("hello".to_owned(), "invalid type: string \"hello\", expected a mapping of settings at line 1 column 1"),
        ("prots: 1".to_owned(), &format!("unknown field 'prots', {known} at line 1 column 1")),
        ("workers: []\n\n\nfoo: 1".to_owned(), &format!("unknown field 'foo', {known} at line 4 column 1")),
        ("workers: []\nworkers: []".to_owned(), "duplicate field 'workers' at line 2 column 1"),
        (
            "workers:\n\t- name: a".to_owned(),
            "found character that cannot start any token at line 2 column 1, while scanning for the next token",
        ),
        ("workers: 5".to_owned(), "workers: invalid type: integer '5', expected a sequence at line 1 column 10"),
        ("port: 70000".to_owned(), "port: invalid value: integer '70000', expected u16 at line 1 column 7"),
        ("port: \"1\"".to_owned(), "port: invalid type: string \"1\", expected u16 at line 1 column 7"),
        ("shards: 65".to_owned(), "shards: invalid value: integer '65', expected 1..=64 at line 1 column 9"),
        ("shards: 0".to_owned(), "shards: invalid value: integer '0', expected 1..=64 at line 1 column 9"),
        (
            "worker_names: both".to_owned(),
            "worker_names: unknown variant 'both', expected 'shared' or 'exclusive' at line 1 column 15",
        ),
        ("workers:\n  - config: {}".to_owned(), "workers[0]: missing field 'name' at line 2 column 5"),
        (
            "workers:\n  - name: ~".to_owned(),
            "workers[0].name: worker name must be a non-empty string at line 2 column 11",
        ),
        (
            "workers:\n  - name: 5".to_owned(),
            "workers[0].name: worker name must be a non-empty string at line 2 column 11",
        ),
        (
            "workers:\n  - http".to_owned(),
            "workers[0]: invalid type: string \"http\", expected a mapping with 'name' at line 2 column 5",
        ),
        (
            "workers:\n  - name: a b\n    worker_path: .".to_owned(),
            "workers[0].name: 'a b' is not a worker name: use letters, digits, '-', '_', '.' at line 2 column 11",
        ),
        (
            http("port: \"41511\""),
            "workers[0].config.port: failed to create worker 'iii-http': Failed to create iii-http: \
             invalid type: string \"41511\", expected u16 at line 4 column 13",
        ),
        (
            http("port: 70000"),
            "workers[0].config.port: failed to create worker 'iii-http': Failed to create iii-http: \
             invalid value: integer '70000', expected u16 at line 4 column 13",
        ),
        (
            http("cors: {x: 1}"),
            "workers[0].config.cors: failed to create worker 'iii-http': Failed to create iii-http: \
             unknown field 'x', expected 'allowed_origins' or 'allowed_methods' at line 4 column 14",
        ),
        // A place after a reference is the one in the file as written.
        (
            http("cors: {allowed_origins: [\"${B}\"], x: 1}"),
            "workers[0].config.cors: failed to create worker 'iii-http': Failed to create iii-http: \
             unknown field 'x', expected 'allowed_origins' or 'allowed_methods' at line 4 column 41",
        ),
    ] {
        assert_eq!(first_line(&text), format!("Failed to parse config file 'c.yaml': {expected}"), "{text}");
    }
}

/// CFG-29, CFG-31, CFG-34, CFG-60, MW-30; cases 14, 15.
#[test]
fn cfg_60_first_lines() {
    for (text, expected) in [
        (
            "workers: [{name: iii-state, config: {adapter: {name: mongo}}}]",
            "workers[0].config.adapter.name: failed to create worker 'iii-state': Failed to create iii-state: \
             Adapter factory 'mongo' not found. Available: [\"bridge\", \"kv\", \"redis\"] at line 1 column 54",
        ),
        (
            "workers: [{name: iii-state, config: {adapter: {name: kv, x: 1}}}]",
            "workers[0].config.adapter: failed to create worker 'iii-state': Failed to create iii-state: \
             unknown field 'x', expected 'name' or 'config' at line 1 column 58",
        ),
        (
            "workers: [{name: iii-http, image: x}]",
            "workers[0].image: failed to create worker 'iii-http': Failed to create iii-http: Worker 'iii-http' is a \
             built-in worker and cannot have an 'image' field. Remove it, or use another name. at line 1 column 28",
        ),
        (
            "workers: [{name: mathworker}]",
            "workers[0].name: failed to create worker 'mathworker': Failed to create mathworker: unknown worker \
             'mathworker': not built in, no worker_path, no installed binary at ~/.iii/workers/mathworker \
             at line 1 column 18",
        ),
        (
            "workers: [{name: iii-exec}]",
            "workers[0].config: failed to create worker 'iii-exec': Failed to create iii-exec: missing field 'exec' \
             at line 1 column 11",
        ),
        (
            "workers: [{name: queue, config: {queue_configs: {q: {type: fifo}}}}]",
            "workers[0].config.queue_configs.q.type: failed to create worker 'queue': Failed to create queue: \
             Queue 'q' is of type 'fifo' but 'message_group_field' is not set at line 1 column 60",
        ),
    ] {
        assert_eq!(first_line(text), format!("Failed to parse config file 'c.yaml': {expected}"), "{text}");
    }
    let unknown = first_line("modules: [{class: 'my::Other'}]");
    let expected = "modules[0].class: failed to create module 'my::Other': Unknown module class: my::Other. Known: ";
    assert!(unknown.contains(expected), "{unknown}");
}

/// CFG-32, CFG-43; case 16.
#[test]
fn cfg_43_duplicates() {
    for (text, expected) in [
        (
            "workers:\n  - name: iii-http\n  - name: http",
            "Duplicate worker configurations:\n- 'iii-http' is the deprecated name for 'http', but both are present. \
             Remove 'iii-http' from your configuration. at line 2 column 11",
        ),
        (
            "workers:\n  - name: iii-state\n  - name: state",
            "Duplicate worker configurations:\n- 'iii-state' is the deprecated name for 'state', but both are present. \
             Remove 'iii-state' from your configuration. at line 2 column 11",
        ),
        (
            "workers:\n  - name: state\nmodules:\n  - class: modules::state::StateModule",
            "modules[0]: duplicate worker name 'iii-state' at line 4 column 5 (first declared at line 2)",
        ),
        (
            "workers:\n  - {name: w, worker_path: ./a}\n  - {name: w, worker_path: ./b}",
            "workers[1]: duplicate worker name 'w' at line 3 column 5 (first declared at line 2)",
        ),
    ] {
        let shown = refusal(text);
        let start = format!("Failed to parse config file 'c.yaml': {expected}\n");
        assert!(shown.starts_with(&start), "{shown}");
        assert!(!shown.contains("also:"), "{shown}");
    }
    let several =
        "workers: [{name: http}, {name: 'http#x'}, {name: http, config: {port: 1}}, {name: http}, {name: 'state#7'}]";
    assert_eq!(declared(&read(several)), ["iii-http", "iii-http#x", "iii-http#1", "iii-http#2", "iii-state#7"]);
    // Case 17.
    let managers = "workers: [{name: iii-worker-manager}, {name: iii-worker-manager, config: {port: 1}}]";
    assert_eq!(declared(&read(managers)), ["iii-worker-manager", "iii-worker-manager#1"]);
}

/// The whole message: place, line, caret, suggestion, and the other problems of the file.
#[test]
fn cfg_19_shows_the_line() {
    assert_eq!(
        refusal("workers:\n  - name: iii-http\n    config:\n      prot: 1\n      port: x # no\n"),
        "Failed to parse config file 'c.yaml': workers[0].config: failed to create worker 'iii-http': \
         Failed to create iii-http: unknown field 'prot', expected one of 'port', 'host', 'default_timeout', \
         'concurrency_request_limit', 'cors', 'middleware', 'body_limit', 'trust_proxy', 'request_id_header', \
         'ignore_trailing_slash', 'not_found_function', 'decode_path_params', 'empty_result_grace_ms', 'openapi', \
         'access_log' at line 4 column 7\n\
         \x20 4 |       prot: 1\n\
         \x20   |       ^^^^\n\
         \x20 did you mean 'port'?\n\n\
         also: workers[0].config.port: failed to create worker 'iii-http': Failed to create iii-http: \
         invalid type: string \"x\", expected u16 at line 5 column 13\n\
         \x20 5 |       port: x # no\n\
         \x20   |             ^"
    );
}

/// CFG-14, CFG-15; cases 10, 11, 12.
#[test]
fn cfg_14_environment() {
    assert_eq!(
        refusal("host: ${A}\n# ${COMMENT}\nport: ${P}"),
        "Failed to parse config file 'c.yaml': environment variable 'A' is not set and has no default at line 1 column 7\n\
         \x20 1 | host: ${A}\n\
         \x20   |       ^^^^\n\n\
         also: environment variable 'P' is not set and has no default at line 3 column 7\n\
         \x20 3 | port: ${P}\n\
         \x20   |       ^^^^"
    );
    assert_eq!(read("port: ${P:3111}").top.port, Some(3111));
    assert_eq!(read("host: ${B}").top.host.as_deref(), Some("x"));
    assert!(first_line("port: \"${P:3111}\"").contains("port: invalid type: string \"3111\", expected u16"));
    let empty_host = first_line("workers: [{name: worker-manager, config: {host: '${E}'}}]");
    assert!(empty_host.contains("host must not be empty"), "{empty_host}");
}

/// CFG-26, CFG-20 and the other things that are accepted with a warning; case 9.
#[test]
fn cfg_26_warnings() {
    for (text, expected) in [
        (
            "workers:\n  - name: iii-http\n    confg: 1",
            "workers[0].confg: ignored unknown key 'confg', did you mean 'config'? at line 3 column 5",
        ),
        ("rootfs: {mode: off}", "rootfs: accepted for older files and ignored at line 1 column 1"),
        (
            "modules: [{class: 'modules::kv_server::KvServer'}]",
            "modules[0]: 'modules::kv_server::KvServer' no longer exists and is ignored at line 1 column 11",
        ),
        ("workers: [{name: iii-sandbox}]", "iii-sandbox is not supported; sandbox::* will not be registered"),
        (
            "workers: [{name: iii-observability, config: {service_instance_id: x}}]",
            "workers[0].config.service_instance_id: ignored unknown setting 'service_instance_id' at line 1 column 46",
        ),
        (
            "workers: [{name: http, config: {concurrency_request_limit: 0}}]",
            "workers[0].config.concurrency_request_limit: 0 would refuse every request; 1 is used at line 1 column 60",
        ),
        (
            "workers: [{name: state, config: {adapter: {name: kv, config: {store_method: disk}}}}]",
            "workers[0].config.adapter.config.store_method: unknown store method 'disk', expected 'in_memory' or \
             'file_based'; in_memory is used at line 1 column 77",
        ),
    ] {
        assert_eq!(notes(text), [expected], "{text}");
    }
}

/// CFG-25, CFG-35, MW-1.
#[test]
fn cfg_25_entry_keys() {
    let config = read(
        "workers:\n\
         \x20 - {name: a, worker_path: ./a, watch: false, config: {x: 1}}\n\
         \x20 - {name: b, image: 'docker.io/b', config: [1]}\n\
         \x20 - {name: installed-worker}\n\
         \x20 - {name: off, worker_path: ./off, enabled: false}\n\
         \x20 - {name: http, config: {enabled: false, port: 1}}\n\
         \x20 - {name: 'my::CustomQueueModule', config: {adapter: {class: 'my::X'}}}\n\
         \x20 - {class: 'modules::cron::CronModule', name: iii-cron, config: {enabled: false}}\n",
    );
    assert_eq!(declared(&config), ["a", "b", "installed-worker", "my::CustomQueueModule", "iii-cron"]);
    assert_eq!(worker(&config, "a").kind, WorkerKind::Local);
    assert_eq!(worker(&config, "a").watch, Watch::Never);
    assert_eq!(worker(&config, "b").kind, WorkerKind::Image);
    assert_eq!(worker(&config, "installed-worker").kind, WorkerKind::Installed);
    let disagree = first_line("workers: [{name: http, class: 'modules::cron::CronModule'}]");
    assert!(disagree.contains("workers[0].class: class and name 'http' mean different workers"), "{disagree}");
}

/// CFG-37: listeners come last, so nothing connects before the built-in workers exist.
#[test]
fn cfg_37_start_order() {
    let ids: Vec<String> =
        read("workers: [{name: worker-manager}, {name: http}, {name: configuration}, {name: w, worker_path: .}]")
            .workers
            .into_iter()
            .map(|worker| worker.id)
            .collect();
    let expected =
        ["iii-engine-functions", "iii-observability", "configuration", "iii-http", "w", "iii-worker-manager"];
    assert_eq!(ids, expected);
}

/// CFG-39.
#[test]
fn cfg_39_files_of_the_older_tool() {
    let config = load_fixture("tool-0.11.yaml");
    let WorkerKind::BuiltIn(_, WorkerSettings::State(state)) = &worker(&config, "iii-state").kind else { panic!() };
    let StateAdapter::Kv(kv) = &state.adapter else { panic!("{state:?}") };
    assert_eq!((&kv.store_method, kv.file_path.as_str()), (&StoreMethod::FileBased, "./data/state_store.db"));
    assert_eq!(worker(&config, "math-worker").kind, WorkerKind::Local);
}

/// CFG-30, CFG-34, CFG-35.
#[test]
fn cfg_30_files_in_the_class_dialect() {
    let config = load_fixture("classes.yaml");
    assert_eq!(
        declared(&config),
        [
            "iii-observability",
            "iii-http",
            "iii-queue",
            "iii-state",
            "iii-stream",
            "iii-cron",
            "iii-pubsub",
            "iii-exec",
            "iii-telemetry",
        ]
    );
    let WorkerKind::BuiltIn(_, WorkerSettings::Queue(queue)) = &worker(&config, "iii-queue").kind else { panic!() };
    let QueueAdapter::Redis(redis) = &queue.adapter else { panic!("{queue:?}") };
    assert_eq!(redis.redis_url, "redis://localhost:6379");
    assert!(queue.queue_configs.contains_key("default"));
    assert_eq!(config.top.port, Some(49200));
}

/// CFG-45: `config.yaml` at the root says what the built-in defaults say.
#[test]
fn cfg_45_the_committed_file_is_the_default() {
    let load = |choice: Choice| {
        let loaded = config::load(&choice, &Overrides::default(), &surroundings()).expect("valid");
        assert!(loaded.notes.iter().all(|note| note.level == NoteLevel::Info), "{:?}", loaded.notes);
        loaded
    };
    let file = load(Choice::File("config.yaml".into()));
    let built_in = load(Choice::Defaults);
    assert_eq!(file.config.top, built_in.config.top);
    let kinds = |loaded: &config::Loaded| {
        let mut kinds: Vec<(String, WorkerKind)> =
            loaded.config.workers.iter().map(|worker| (worker.id.clone(), worker.kind.clone())).collect();
        kinds.sort_by(|left, right| left.0.cmp(&right.0));
        kinds
    };
    assert_eq!(kinds(&file), kinds(&built_in));
    let settings = file.settings(false).expect("resolves");
    assert_eq!(format!("{settings:?}"), format!("{:?}", built_in.settings(false).expect("resolves")));
    assert_eq!(settings.shards, 4);
    assert_eq!(settings.registration_namespace_grace_ms, 200);
}

/// CFG-2, CFG-4, CFG-5, CFG-6; cases 3, 4, 38.
#[test]
fn cfg_2_which_file() {
    let directory = std::env::temp_dir().join(format!("iii-config-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("temporary directory");
    let source = || config::Source::choose(&Choice::Search, &directory);
    assert!(source().fallback);
    for (name, ignored) in
        [("config.yml", None), ("iii-config.yaml", Some("config.yml")), ("config.yaml", Some("iii-config.yaml"))]
    {
        std::fs::write(directory.join(name), "workers: []").expect("write");
        assert_eq!(source().file.as_deref(), Some(Path::new(name)));
        assert_eq!(source().ignored.as_deref(), ignored.map(Path::new));
    }
    std::fs::remove_dir_all(&directory).expect("remove");

    let load = |path: &str| {
        let choice = Choice::File(path.into());
        config::load(&choice, &Overrides::default(), &surroundings()).expect_err("refused").to_string()
    };
    assert!(load("nope.yaml").starts_with("Config file not found: 'nope.yaml'.\nHint: "), "{}", load("nope.yaml"));
    assert_eq!(load("."), "Failed to read config file '.': Is a directory (os error 21)");
}

/// The committed schema is the one the types make: `iii config schema > config.schema.json`.
#[test]
fn the_committed_schema_is_current() {
    let committed = std::fs::read_to_string("config.schema.json").expect("config.schema.json");
    assert!(committed == config::schema(), "run `iii config schema > config.schema.json`");
}

/// CFG-81: order of keys never counts.
#[test]
fn cfg_81_order_of_keys_does_not_count() {
    let left = read("workers: [{name: http, config: {port: 1, cors: {allowed_origins: [a], allowed_methods: [GET]}}}]");
    let right =
        read("workers: [{config: {cors: {allowed_methods: [GET], allowed_origins: [a]}, port: 1}, name: http}]");
    assert!(config::diff(&left, &right).is_empty());
}

/// Hostile nesting ends in an error, not in a crash.
#[test]
fn nesting_is_bounded() {
    for text in [format!("workers: {}", "[".repeat(5_000)), "a: ".repeat(5_000), "- ".repeat(5_000), "{".repeat(5_000)]
    {
        assert!(first_line(&text).starts_with("Failed to parse config file 'c.yaml': "));
    }
}

/// CFG-51: a reload reads the same file again and keeps the command line's values.
#[test]
fn cfg_51_overrides_survive_a_reload() {
    let path = std::env::temp_dir().join(format!("iii-reload-{}.yaml", std::process::id()));
    std::fs::write(&path, "workers: []").expect("write");
    let overrides = Overrides { port: Some(50000), shards: Some(2), ..Overrides::default() };
    let loaded = config::load(&Choice::File(path.clone()), &overrides, &surroundings()).expect("valid");
    std::fs::write(&path, "port: 1\nshards: 3\nworkers: [{name: state}]").expect("write");
    let reloaded = loaded.reload(&surroundings()).expect("valid");
    std::fs::remove_file(&path).expect("remove");
    assert_eq!(config::diff(&loaded.config, &reloaded.config).added, ["iii-state"]);
    let settings = reloaded.settings(true).expect("resolves");
    assert_eq!((settings.listeners[0].addresses[0].port(), settings.shards, settings.busy_poll), (50000, 2, true));
}
