//! The functions the engine itself provides, and which ids nobody else may take.

use crate::registry::DEFAULT_NAMESPACE;

/// Name of the worker that owns discovery (ENG-1).
pub const ENGINE_FUNCTIONS_WORKER: &str = "iii-engine-functions";
/// Name of the worker that owns logging, baggage and health (ENG-1).
pub const OBSERVABILITY_WORKER: &str = "iii-observability";

/// One line per function: variant, id, owner, what it does.
macro_rules! engine_functions {
    ($($name:ident = $id:literal, $worker:expr, $description:literal;)*) => {
        /// A function of the engine. `as usize` is its index in [`EngineFunction::ALL`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum EngineFunction {
            $(#[doc = concat!("`", $id, "`")] $name,)*
        }

        impl EngineFunction {
            /// All of them.
            pub const ALL: &'static [EngineFunction] = &[$(EngineFunction::$name,)*];

            /// The id callers use.
            pub fn id(self) -> &'static str {
                match self { $(EngineFunction::$name => $id,)* }
            }

            /// The function of this id.
            pub fn of_id(id: &str) -> Option<EngineFunction> {
                match id { $($id => Some(EngineFunction::$name),)* _ => None }
            }

            /// The built-in worker that owns it.
            pub fn worker(self) -> &'static str {
                match self { $(EngineFunction::$name => $worker,)* }
            }

            /// One line for people.
            pub fn description(self) -> &'static str {
                match self { $(EngineFunction::$name => $description,)* }
            }
        }
    };
}

engine_functions! {
    // Run by the caller's home shard; all others run on the control shard.
    WorkersRegister = "engine::workers::register", ENGINE_FUNCTIONS_WORKER, "Announce the calling worker.";
    ChannelsCreate = "engine::channels::create", ENGINE_FUNCTIONS_WORKER, "Create a data channel.";
    WorkersList = "engine::workers::list", ENGINE_FUNCTIONS_WORKER, "List connected and built-in workers.";
    WorkersInfo = "engine::workers::info", ENGINE_FUNCTIONS_WORKER, "Describe one worker and all it registered.";
    FunctionsList = "engine::functions::list", ENGINE_FUNCTIONS_WORKER, "List registered functions.";
    FunctionsInfo = "engine::functions::info", ENGINE_FUNCTIONS_WORKER, "Describe one function or several.";
    TriggersList = "engine::triggers::list", ENGINE_FUNCTIONS_WORKER, "List trigger types, or triggers for callers before 0.13.";
    TriggersInfo = "engine::triggers::info", ENGINE_FUNCTIONS_WORKER, "Describe one trigger type.";
    TriggerTypesList = "engine::trigger-types::list", ENGINE_FUNCTIONS_WORKER, "List trigger types with their formats.";
    RegisteredTriggersList = "engine::registered-triggers::list", ENGINE_FUNCTIONS_WORKER, "List registered triggers.";
    RegisteredTriggersInfo = "engine::registered-triggers::info", ENGINE_FUNCTIONS_WORKER, "Describe one registered trigger.";
    RegisterTrigger = "engine::register_trigger", ENGINE_FUNCTIONS_WORKER, "Register a trigger that outlives its caller.";
    UnregisterTrigger = "engine::unregister_trigger", ENGINE_FUNCTIONS_WORKER, "Remove a trigger.";
    LogInfo = "engine::log::info", OBSERVABILITY_WORKER, "Log a line at level info.";
    LogWarn = "engine::log::warn", OBSERVABILITY_WORKER, "Log a line at level warn.";
    LogError = "engine::log::error", OBSERVABILITY_WORKER, "Log a line at level error.";
    LogDebug = "engine::log::debug", OBSERVABILITY_WORKER, "Log a line at level debug.";
    LogTrace = "engine::log::trace", OBSERVABILITY_WORKER, "Log a line at level trace.";
    BaggageGet = "engine::baggage::get", OBSERVABILITY_WORKER, "Read one entry of the call's baggage.";
    BaggageSet = "engine::baggage::set", OBSERVABILITY_WORKER, "Set a baggage entry in a new context.";
    BaggageGetAll = "engine::baggage::get_all", OBSERVABILITY_WORKER, "Read the call's baggage.";
    HealthCheck = "engine::health::check", OBSERVABILITY_WORKER, "Say how the engine is.";
}

/// A worker inside the engine, as discovery shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuiltInWorker<'a> {
    /// Name and id.
    pub name: &'a str,
    /// One line for people.
    pub description: &'a str,
}

/// Built-in workers that always run.
pub const BUILT_IN_WORKERS: [BuiltInWorker<'static>; 3] = [
    BuiltInWorker { name: ENGINE_FUNCTIONS_WORKER, description: "Discovery and the other functions of the engine." },
    BuiltInWorker { name: OBSERVABILITY_WORKER, description: "Logging, baggage and health." },
    BuiltInWorker { name: "iii-worker-manager", description: "Accepts worker connections." },
];

/// Who owns an id that a connection may not take, if it is one (PROTO-51, ENG-54). Empty = nobody, but reserved.
pub fn reserved(namespace: &str, id: &str) -> Option<&'static str> {
    if !id.starts_with("engine::") {
        return None;
    }
    if namespace != DEFAULT_NAMESPACE {
        return Some("");
    }
    EngineFunction::of_id(id).map(EngineFunction::worker)
}

#[cfg(test)]
mod tests {
    use super::*;

    // PROTO-51
    #[test]
    fn reserved_ids() {
        assert_eq!(reserved("default", "engine::functions::list"), Some("iii-engine-functions"));
        assert_eq!(reserved("default", "engine::log::info"), Some("iii-observability"));
        assert_eq!(reserved("default", "engine::console::x"), None);
        assert_eq!(reserved("other", "engine::console::x"), Some(""));
        assert_eq!(reserved("other", "a::b"), None);
    }

    #[test]
    fn ids_are_unique_and_found() {
        for (index, function) in EngineFunction::ALL.iter().enumerate() {
            assert_eq!(*function as usize, index);
            assert_eq!(EngineFunction::of_id(function.id()), Some(*function));
        }
    }
}
