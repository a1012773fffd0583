//! Trigger types that live inside the engine: what a built-in worker implements to have some.

use super::super::report::Command;
use super::Binding;
use crate::ids::ShardId;

/// Commands for data shards that a provider wants sent, in order.
pub type Commands = Vec<(ShardId, Command)>;

/// A built-in worker's side of one trigger type. Runs on the control shard, so it must not block: what takes long
/// is handed to the worker's own thread or, through `commands`, to data shards.
///
/// A binding is registered once and unregistered once, in that order, each time with the same content; a binding
/// that is replaced is unregistered first. Anything that is wrong with its configuration is said at registration.
pub trait TriggerProvider: Send {
    /// Starts a binding. `Err` is told to whoever registered it, under `trigger_registration_failed` (PROTO-92).
    fn register(&mut self, binding: &Binding, commands: &mut Commands) -> Result<(), String>;

    /// Ends a binding. `Err` is logged, and told to a caller of `engine::unregister_trigger`; it is gone anyway.
    fn unregister(&mut self, binding: &Binding, commands: &mut Commands) -> Result<(), String>;
}

/// A trigger type of a built-in worker. Description, schemas and owner are those of [`super::super::schemas`].
pub struct BuiltInTriggerType {
    /// Type id, in namespace `default`.
    pub id: &'static str,
    /// Who runs it.
    pub provider: Box<dyn TriggerProvider>,
}

/// A provider that keeps nothing: whoever fires the type asks for its live bindings.
pub struct AcceptAll;

impl TriggerProvider for AcceptAll {
    fn register(&mut self, _: &Binding, _: &mut Commands) -> Result<(), String> {
        Ok(())
    }

    fn unregister(&mut self, _: &Binding, _: &mut Commands) -> Result<(), String> {
        Ok(())
    }
}
