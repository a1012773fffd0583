//! The built-in workers: their names in both dialects, and what may be repeated or left out.

/// A built-in worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BuiltIn {
    /// `engine::*` functions.
    EngineFunctions,
    /// Traces, metrics, logs.
    Observability,
    /// Accepted; does nothing.
    Telemetry,
    /// `configuration::*` functions.
    Configuration,
    /// HTTP triggers.
    Http,
    /// Streams.
    Stream,
    /// Key-value state.
    State,
    /// Queues.
    Queue,
    /// Publish and subscribe.
    PubSub,
    /// Timed triggers.
    Cron,
    /// Development commands.
    Exec,
    /// Functions of another engine.
    Bridge,
    /// Functions that are HTTP endpoints.
    HttpFunctions,
    /// `worker::*` functions.
    WorkerOps,
    /// Accepted with a warning; not supported.
    Sandbox,
    /// Worker listeners.
    WorkerManager,
}

/// What is known about a built-in worker.
#[derive(Debug)]
pub struct Facts {
    /// The worker.
    pub worker: BuiltIn,
    /// Its name.
    pub name: &'static str,
    /// Other names for it.
    pub aliases: &'static [&'static str],
    /// Class names of the older dialect, without `modules::`.
    pub classes: &'static [&'static str],
    /// Present even if the file does not list it.
    pub mandatory: bool,
    /// May be listed several times as independent instances (CFG-43).
    pub repeatable: bool,
    /// Its adapters, default first.
    pub adapters: &'static [Adapter],
}

/// An adapter of a built-in worker.
#[derive(Debug)]
pub struct Adapter {
    /// Its name.
    pub name: &'static str,
    /// Other exact spellings.
    pub aliases: &'static [&'static str],
    /// A lower-case word in the last segment of a class that means this adapter.
    pub class_word: &'static str,
}

const KV: Adapter = Adapter { name: "kv", aliases: &[], class_word: "kv" };
const REDIS: Adapter = Adapter { name: "redis", aliases: &[], class_word: "redis" };
const BRIDGE: Adapter = Adapter { name: "bridge", aliases: &[], class_word: "bridge" };

const PLAIN: Facts = Facts {
    worker: BuiltIn::WorkerOps,
    name: "",
    aliases: &[],
    classes: &[],
    mandatory: false,
    repeatable: false,
    adapters: &[],
};

/// Every built-in worker, mandatory ones first, in the order they start.
pub static CATALOG: &[Facts] = &[
    Facts {
        worker: BuiltIn::EngineFunctions,
        name: "iii-engine-functions",
        aliases: &["engine-functions"],
        classes: &["worker::WorkerModule"],
        mandatory: true,
        ..PLAIN
    },
    Facts {
        worker: BuiltIn::Observability,
        name: "iii-observability",
        aliases: &["observability"],
        classes: &["observability::OtelModule", "observability::ObservabilityModule", "observability::LoggingModule"],
        mandatory: true,
        ..PLAIN
    },
    Facts {
        worker: BuiltIn::Configuration,
        name: "configuration",
        aliases: &["iii-configuration"],
        mandatory: true,
        adapters: &[Adapter { name: "fs", aliases: &[], class_word: "fs" }, BRIDGE],
        ..PLAIN
    },
    Facts {
        worker: BuiltIn::Telemetry,
        name: "iii-telemetry",
        aliases: &["telemetry"],
        classes: &["telemetry::TelemetryModule"],
        ..PLAIN
    },
    Facts {
        worker: BuiltIn::Http,
        name: "iii-http",
        aliases: &["http"],
        classes: &["api::RestApiModule", "rest_api::RestApiModule"],
        repeatable: true,
        ..PLAIN
    },
    Facts {
        worker: BuiltIn::Stream,
        name: "iii-stream",
        aliases: &["stream"],
        classes: &["stream::StreamModule", "streams::StreamModule", "stream::StreamCoreModule"],
        repeatable: true,
        adapters: &[KV, REDIS, BRIDGE],
        ..PLAIN
    },
    Facts {
        worker: BuiltIn::State,
        name: "iii-state",
        aliases: &["state"],
        classes: &["state::StateModule", "state::StateCoreModule"],
        adapters: &[KV, REDIS, BRIDGE],
        ..PLAIN
    },
    Facts {
        worker: BuiltIn::Queue,
        name: "iii-queue",
        aliases: &["queue"],
        classes: &["queue::QueueModule", "event::EventModule", "queue::QueueWorker"],
        adapters: &[
            Adapter { name: "builtin", aliases: &["in_memory", "file_based", "memory"], class_word: "builtin" },
            REDIS,
            Adapter { name: "rabbitmq", aliases: &[], class_word: "rabbitmq" },
            BRIDGE,
        ],
        ..PLAIN
    },
    Facts {
        worker: BuiltIn::PubSub,
        name: "iii-pubsub",
        aliases: &["pubsub"],
        classes: &["pubsub::PubSubModule", "pubsub::PubSubWorker"],
        adapters: &[Adapter { name: "local", aliases: &["memory"], class_word: "local" }, REDIS],
        ..PLAIN
    },
    Facts {
        worker: BuiltIn::Cron,
        name: "iii-cron",
        aliases: &["cron"],
        classes: &["cron::CronModule", "cron::CronWorker"],
        adapters: &[Adapter { name: "kv", aliases: &["local"], class_word: "kv" }, REDIS],
        ..PLAIN
    },
    Facts {
        worker: BuiltIn::Exec,
        name: "iii-exec",
        aliases: &["exec"],
        classes: &["shell::ExecModule", "shell::ShellExecModule"],
        repeatable: true,
        ..PLAIN
    },
    Facts {
        worker: BuiltIn::Bridge,
        name: "iii-bridge",
        aliases: &["bridge"],
        classes: &["bridge_client::BridgeClientModule"],
        repeatable: true,
        ..PLAIN
    },
    Facts {
        worker: BuiltIn::HttpFunctions,
        name: "iii-http-functions",
        aliases: &["http-functions"],
        classes: &["http_functions::HttpFunctionsModule"],
        ..PLAIN
    },
    Facts { worker: BuiltIn::WorkerOps, name: "iii-worker-ops", aliases: &["worker-ops"], ..PLAIN },
    Facts { worker: BuiltIn::Sandbox, name: "iii-sandbox", aliases: &["sandbox"], ..PLAIN },
    Facts {
        worker: BuiltIn::WorkerManager,
        name: "iii-worker-manager",
        aliases: &["worker-manager"],
        mandatory: true,
        repeatable: true,
        ..PLAIN
    },
];

/// Class of a worker that no longer exists: accepted and ignored.
pub const DROPPED_CLASS: &str = "modules::kv_server::KvServer";

impl BuiltIn {
    /// What is known about it.
    pub fn facts(self) -> &'static Facts {
        CATALOG.iter().find(|facts| facts.worker == self).expect("every built-in worker is in the catalogue")
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// The worker with this name or alias.
    pub fn by_name(name: &str) -> Option<BuiltIn> {
        let facts = CATALOG.iter().find(|facts| facts.name == name || facts.aliases.contains(&name));
        facts.map(|facts| facts.worker)
    }

    /// The worker with exactly this class.
    pub fn by_class(class: &str) -> Option<BuiltIn> {
        let rest = class.strip_prefix("modules::").or_else(|| class.strip_prefix("workers::"))?;
        CATALOG.iter().find(|facts| facts.classes.contains(&rest)).map(|facts| facts.worker)
    }

    /// The worker whose class ends like this one, whatever stands before (CFG-30).
    pub fn by_last_segment(class: &str) -> Option<BuiltIn> {
        let last = last_segment(class);
        let ends = |known: &&str| last_segment(known).eq_ignore_ascii_case(last);
        CATALOG.iter().find(|facts| facts.classes.iter().any(ends)).map(|facts| facts.worker)
    }
}

impl Facts {
    /// The adapter with this name, alias or class (CFG-34).
    pub fn adapter(&self, word: &str) -> Option<&'static Adapter> {
        let exact = self.adapters.iter().find(|adapter| adapter.name == word || adapter.aliases.contains(&word));
        let by_class = || {
            let last = word.rsplit_once("::")?.1.to_ascii_lowercase();
            self.adapters.iter().find(|adapter| last.contains(adapter.class_word))
        };
        exact.or_else(by_class)
    }
}

fn last_segment(class: &str) -> &str {
    class.rsplit("::").next().unwrap_or(class)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cfg_30_classes() {
        for (class, expected) in [
            ("modules::api::RestApiModule", BuiltIn::Http),
            ("modules::rest_api::RestApiModule", BuiltIn::Http),
            ("modules::queue::QueueModule", BuiltIn::Queue),
            ("modules::event::EventModule", BuiltIn::Queue),
            ("modules::cron::CronModule", BuiltIn::Cron),
            ("modules::stream::StreamModule", BuiltIn::Stream),
            ("modules::streams::StreamModule", BuiltIn::Stream),
            ("modules::stream::StreamCoreModule", BuiltIn::Stream),
            ("modules::state::StateModule", BuiltIn::State),
            ("modules::state::StateCoreModule", BuiltIn::State),
            ("modules::pubsub::PubSubModule", BuiltIn::PubSub),
            ("modules::observability::OtelModule", BuiltIn::Observability),
            ("modules::observability::ObservabilityModule", BuiltIn::Observability),
            ("modules::observability::LoggingModule", BuiltIn::Observability),
            ("modules::shell::ExecModule", BuiltIn::Exec),
            ("modules::bridge_client::BridgeClientModule", BuiltIn::Bridge),
            ("modules::http_functions::HttpFunctionsModule", BuiltIn::HttpFunctions),
            ("modules::telemetry::TelemetryModule", BuiltIn::Telemetry),
            ("modules::worker::WorkerModule", BuiltIn::EngineFunctions),
        ] {
            assert_eq!(BuiltIn::by_class(class), Some(expected), "{class}");
        }
        for (class, expected) in [
            ("RestApiModule", Some(BuiltIn::Http)),
            ("ExecModule", Some(BuiltIn::Exec)),
            ("ShellExecModule", Some(BuiltIn::Exec)),
            ("other::statemodule", Some(BuiltIn::State)),
            ("my::CustomQueueModule", None),
        ] {
            assert_eq!(BuiltIn::by_last_segment(class), expected, "{class}");
        }
    }

    #[test]
    fn cfg_34_adapter_classes() {
        for (worker, word, expected) in [
            (BuiltIn::Queue, "modules::queue::BuiltinQueueAdapter", Some("builtin")),
            (BuiltIn::Queue, "in_memory", Some("builtin")),
            (BuiltIn::Queue, "modules::queue::RedisAdapter", Some("redis")),
            (BuiltIn::Queue, "modules::queue::adapters::RedisAdapter", Some("redis")),
            (BuiltIn::Queue, "modules::event::RedisAdapter", Some("redis")),
            (BuiltIn::Queue, "adapters::redis::RedisQueueAdapter", Some("redis")),
            (BuiltIn::Queue, "modules::queue::RabbitMQAdapter", Some("rabbitmq")),
            (BuiltIn::Queue, "modules::queue::adapters::Bridge", Some("bridge")),
            (BuiltIn::State, "modules::state::adapters::KvStore", Some("kv")),
            (BuiltIn::State, "modules::state::adapters::RedisAdapter", Some("redis")),
            (BuiltIn::State, "modules::state::adapters::Bridge", Some("bridge")),
            (BuiltIn::Stream, "modules::stream::adapters::KvStore", Some("kv")),
            (BuiltIn::Stream, "modules::stream::adapters::RedisAdapter", Some("redis")),
            (BuiltIn::Stream, "modules::stream::adapters::Bridge", Some("bridge")),
            (BuiltIn::Cron, "modules::cron::KvCronAdapter", Some("kv")),
            (BuiltIn::Cron, "modules::cron::RedisCronAdapter", Some("redis")),
            (BuiltIn::PubSub, "modules::pubsub::LocalAdapter", Some("local")),
            (BuiltIn::PubSub, "modules::pubsub::RedisAdapter", Some("redis")),
            (BuiltIn::Configuration, "fs", Some("fs")),
            (BuiltIn::State, "mongo", None),
            (BuiltIn::State, "my::MongoAdapter", None),
        ] {
            assert_eq!(worker.facts().adapter(word).map(|adapter| adapter.name), expected, "{word}");
        }
    }
}
