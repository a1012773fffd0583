//! Stand-in for the engine.

use iii_shards::settings::Settings;

use crate::config::Loaded;

/// Runs the engine until it is told to stop.
pub fn serve(_settings: Settings, _loaded: Loaded) -> Result<(), String> {
    Err("the engine is not built yet".to_owned())
}
