//! A change of the configuration, as the shards carry it out.

use super::{BuiltInId, Definition};
use crate::settings::Settings;
use std::sync::Arc;

/// What is different from some turn on. Every shard applies it between two messages.
pub struct Change {
    /// Settings from now on. Listeners keep their numbers: new ones come at the end, closed ones stay in the list.
    pub settings: Arc<Settings>,
    /// Built-in workers that change: the number behind the last is a new one, `None` = it is removed.
    pub built_ins: Vec<(BuiltInId, Option<Arc<Definition>>)>,
    /// Listeners whose connections end: closed ones, and those with other rules than before.
    pub ended_listeners: Vec<u16>,
}
