//! What a built-in worker is: its functions, its trigger types, and how to make an instance.

use super::{BuiltIn, Host};
use crate::control::triggers::Binding;
use crate::settings::ListenerSettings;
use std::borrow::Cow;
use std::sync::Arc;

/// Makes the instance of one data shard, on its thread.
pub type Factory = Arc<dyn Fn(&mut dyn Host) -> Box<dyn BuiltIn> + Send + Sync>;

/// Says what is wrong with the configuration of a trigger. Runs on the control shard before anything is registered.
pub type Check = Arc<dyn Fn(&Binding) -> Result<(), String> + Send + Sync>;

/// Hears on the control shard that a trigger which passed its [`Check`] has ended.
pub type Removed = Arc<dyn Fn(&Binding) + Send + Sync>;

/// A built-in worker.
#[derive(Clone)]
pub struct Definition {
    /// Name, as discovery shows it: `iii-queue`.
    pub name: Cow<'static, str>,
    /// One line for people.
    pub description: Cow<'static, str>,
    /// Its functions. Their ids can't be taken by anybody else.
    pub functions: Vec<Function>,
    /// Its trigger types.
    pub trigger_types: Vec<TriggerType>,
    /// Where it listens.
    pub listeners: Vec<ListenerSettings>,
    /// Makes its instances.
    pub factory: Factory,
}

impl Definition {
    /// What stands in the place of a worker that has been removed: nothing of anything.
    pub(crate) fn removed() -> Definition {
        Definition {
            name: "".into(),
            description: "".into(),
            functions: Vec::new(),
            trigger_types: Vec::new(),
            listeners: Vec::new(),
            factory: Arc::new(|_| unreachable!("nobody makes instances of what has been removed")),
        }
    }
}

/// A function of a built-in worker.
#[derive(Clone)]
pub struct Function {
    /// Id, in namespace `default`.
    pub id: Cow<'static, str>,
    /// One line for people.
    pub description: Cow<'static, str>,
    /// JSON Schema of the payload.
    pub request_format: Option<Cow<'static, str>>,
    /// JSON Schema of the result.
    pub response_format: Option<Cow<'static, str>>,
    /// Which instance runs a call.
    pub home: Home,
    /// A worker that registers the id takes it over until it leaves.
    pub yields: bool,
}

impl Function {
    /// A function without schemas.
    pub fn new(id: &'static str, description: &'static str, home: Home) -> Function {
        Function {
            id: id.into(),
            description: description.into(),
            request_format: None,
            response_format: None,
            home,
            yields: false,
        }
    }

    /// Lets workers take the id over.
    pub fn yielding(self) -> Function {
        Function { yields: true, ..self }
    }
}

/// Which instance runs a call.
#[derive(Debug, Clone, Copy)]
pub enum Home {
    /// The one on the caller's shard.
    Caller,
    /// The one chosen by a hash of the payload, so that calls about one thing meet on one shard. The same things
    /// must give the same number on every shard; see [`crate::builtin::Host::home_of`].
    Key(fn(&[u8]) -> u64),
    /// The one on shard 0.
    First,
}

/// A trigger type of a built-in worker.
#[derive(Clone)]
pub struct TriggerType {
    /// Id, in namespace `default`.
    pub id: Cow<'static, str>,
    /// One line for people.
    pub description: Cow<'static, str>,
    /// JSON Schema of a trigger's configuration.
    pub config_format: Option<Cow<'static, str>>,
    /// JSON Schema of what the function is called with.
    pub call_format: Option<Cow<'static, str>>,
    /// Refuses triggers that can't work.
    pub check: Check,
    /// Hears of triggers that end, for a check that depends on those there are.
    pub removed: Option<Removed>,
}

impl TriggerType {
    /// A trigger type without schemas.
    pub fn new(
        id: &'static str,
        description: &'static str,
        check: impl Fn(&Binding) -> Result<(), String> + Send + Sync + 'static,
    ) -> TriggerType {
        let (config_format, call_format) = (None, None);
        TriggerType {
            id: id.into(),
            description: description.into(),
            config_format,
            call_format,
            check: Arc::new(check),
            removed: None,
        }
    }
}
