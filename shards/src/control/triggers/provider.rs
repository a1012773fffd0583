//! Trigger types that live inside the engine: what a built-in worker implements to have some.

use super::super::report::Command;
use super::Binding;
use crate::builtin::{BuiltInId, Check, Removed};
use crate::ids::ShardId;
use std::borrow::Cow;
use std::sync::Arc;

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
    pub id: Cow<'static, str>,
    /// Who runs it.
    pub provider: Box<dyn TriggerProvider>,
}

/// A built-in worker's trigger type: once checked, a trigger is made known to every instance.
pub struct Instances {
    /// Whose type it is.
    pub worker: BuiltInId,
    /// Number of instances.
    pub shards: usize,
    /// Refuses what can't work.
    pub check: Check,
    /// Hears of triggers that end.
    pub removed: Option<Removed>,
}

impl Instances {
    fn tell(&self, binding: &Binding, added: bool, commands: &mut Commands) {
        let trigger = Arc::new(binding.clone());
        for shard in 0..self.shards {
            let command = Command::Trigger { worker: self.worker, trigger: trigger.clone(), added };
            commands.push((ShardId(shard as u16), command));
        }
    }
}

impl TriggerProvider for Instances {
    fn register(&mut self, binding: &Binding, commands: &mut Commands) -> Result<(), String> {
        (self.check)(binding)?;
        self.tell(binding, true, commands);
        Ok(())
    }

    fn unregister(&mut self, binding: &Binding, commands: &mut Commands) -> Result<(), String> {
        if let Some(removed) = &self.removed {
            removed(binding);
        }
        self.tell(binding, false, commands);
        Ok(())
    }
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
