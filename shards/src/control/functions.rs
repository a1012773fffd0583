//! The functions the engine itself provides, and which ids nobody else may take.

use crate::registry::DEFAULT_NAMESPACE;

/// A function of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineFunction {
    /// `engine::workers::register`; run by the caller's home shard.
    WorkersRegister,
    /// `engine::workers::list`
    WorkersList,
    /// `engine::functions::list`
    FunctionsList,
    /// `engine::channels::create`; run by the caller's home shard.
    ChannelsCreate,
}

impl EngineFunction {
    /// All of them; `as usize` is the index.
    pub const ALL: [EngineFunction; 4] = [
        EngineFunction::WorkersRegister,
        EngineFunction::WorkersList,
        EngineFunction::FunctionsList,
        EngineFunction::ChannelsCreate,
    ];

    /// The id callers use.
    pub fn id(self) -> &'static str {
        match self {
            EngineFunction::WorkersRegister => "engine::workers::register",
            EngineFunction::WorkersList => "engine::workers::list",
            EngineFunction::FunctionsList => "engine::functions::list",
            EngineFunction::ChannelsCreate => "engine::channels::create",
        }
    }

    /// The function of this id.
    pub fn of_id(id: &str) -> Option<EngineFunction> {
        Self::ALL.into_iter().find(|function| function.id() == id)
    }

    /// One line for people.
    pub fn description(self) -> &'static str {
        match self {
            EngineFunction::WorkersRegister => "Announce the calling worker.",
            EngineFunction::WorkersList => "List connected and built-in workers.",
            EngineFunction::FunctionsList => "List registered functions.",
            EngineFunction::ChannelsCreate => "Create a data channel.",
        }
    }
}

/// A worker inside the engine, as discovery shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuiltInWorker {
    /// Name and id.
    pub name: &'static str,
    /// One line for people.
    pub description: &'static str,
}

/// Name of the worker that owns the functions of this module (ENG-1).
pub const ENGINE_FUNCTIONS_WORKER: &str = "iii-engine-functions";

/// Built-in workers that always run.
pub const BUILT_IN_WORKERS: [BuiltInWorker; 2] = [
    BuiltInWorker { name: ENGINE_FUNCTIONS_WORKER, description: "Discovery and the other functions of the engine." },
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
    EngineFunction::of_id(id).map(|_| ENGINE_FUNCTIONS_WORKER)
}

#[cfg(test)]
mod tests {
    use super::*;

    // PROTO-51
    #[test]
    fn reserved_ids() {
        assert_eq!(reserved("default", "engine::functions::list"), Some("iii-engine-functions"));
        assert_eq!(reserved("default", "engine::console::x"), None);
        assert_eq!(reserved("other", "engine::console::x"), Some(""));
        assert_eq!(reserved("other", "a::b"), None);
    }

    #[test]
    fn ids_are_unique_and_found() {
        for (index, function) in EngineFunction::ALL.into_iter().enumerate() {
            assert_eq!(function as usize, index);
            assert_eq!(EngineFunction::of_id(function.id()), Some(function));
        }
    }
}
