//! Triggers of type `http`: the check of a registration, and the route made of one.

#![allow(clippy::disallowed_types, reason = "one thread, control's, ever takes the lock; the interface wants `Sync`")]

use std::sync::Mutex;

use iii_shards::control::triggers::Binding;
use iii_shards::http::route::{Owner, Route, RouteConfig, RouteError};
use iii_shards::http::router::Routes;

/// The route of a trigger. Ids of triggers are unique, so all routes are of one owner here.
pub fn route_of(trigger: &Binding) -> Result<Route, RouteError> {
    let metadata = trigger.metadata.as_deref().and_then(|metadata| std::str::from_utf8(metadata).ok());
    Ok(Route {
        trigger_id: (&*trigger.id).into(),
        owner: Owner::Engine,
        config: RouteConfig::parse(&trigger.config)?,
        function_id: trigger.function_id.clone(),
        namespace: trigger.namespace.clone(),
        metadata: metadata.map(Box::from),
    })
}

/// What is registered, as the control shard sees it: it refuses what can't be routed (HTTP-12, HTTP-13).
#[derive(Default)]
pub struct Registrations(Mutex<Routes>);

impl Registrations {
    /// Takes a trigger in, or says what is wrong with it.
    pub fn add(&self, trigger: &Binding) -> Result<(), String> {
        let route = route_of(trigger).map_err(|error| error.0)?;
        self.routes().register(route).map_err(|error| error.0)
    }

    /// A trigger is gone.
    pub fn remove(&self, trigger: &Binding) {
        self.routes().unregister(Owner::Engine, &trigger.id);
    }

    fn routes(&self) -> std::sync::MutexGuard<'_, Routes> {
        self.0.lock().expect("nothing panics with the lock")
    }
}
