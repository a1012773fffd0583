//! Worker listeners: the `iii-worker-manager` entries and what the command line says about them → addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use iii_shards::settings::{AccessRules, FunctionFilter as ShardFilter, ListenerSettings, MetadataRule};
use serde_json::Value;

use super::problem::{ConfigError, Note, NoteLevel};
use super::settings::{FunctionFilter, RbacSettings, WorkerManagerSettings, WorkerSettings};
use super::{BuiltIn, Config, Overrides, WorkerKind, settings};

/// Host that switches off the listener without access rules.
const HOST_NONE: &str = "none";

/// The listeners in the order of the file. Resolves host names.
pub fn listeners(config: &Config, overrides: &Overrides) -> Result<Vec<ListenerSettings>, ConfigError> {
    let entries = effective(config, overrides);
    if entries.is_empty() {
        let worker = BuiltIn::WorkerManager.name().to_owned();
        return Err(ConfigError::Listener {
            worker,
            cause: "no listener is left for workers to connect to".to_owned(),
        });
    }
    entries.iter().map(listener).collect()
}

/// Tells that a listener was added which the file does not name.
pub fn added_listener_note(config: &Config, overrides: &Overrides) -> Option<Note> {
    let declared =
        config.workers.iter().any(|worker| worker.built_in() == Some(BuiltIn::WorkerManager) && worker.declared);
    let (_, added) = effective(config, overrides).into_iter().nth(managers(config).count())?;
    let text = format!(
        "every configured worker listener has access rules; adding one without on {}:{}",
        added.host.as_deref().unwrap_or("127.0.0.1"),
        added.port
    );
    declared.then_some(Note { level: NoteLevel::Info, text })
}

fn managers(config: &Config) -> impl Iterator<Item = (&str, &WorkerManagerSettings)> {
    config.workers.iter().filter_map(|worker| match &worker.kind {
        WorkerKind::BuiltIn(_, WorkerSettings::WorkerManager(settings)) => Some((worker.id.as_str(), settings)),
        _ => None,
    })
}

/// The entries with the overrides applied, and one more if none of them is open to everybody (CFG-51, CFG-52).
fn effective(config: &Config, overrides: &Overrides) -> Vec<(String, WorkerManagerSettings)> {
    let mut entries: Vec<(String, WorkerManagerSettings)> =
        managers(config).map(|(id, settings)| (id.to_owned(), settings.clone())).collect();
    let is_open = |settings: &WorkerManagerSettings| settings.rbac.is_none();
    if !entries.iter().any(|(_, settings)| is_open(settings)) {
        entries.push((BuiltIn::WorkerManager.name().to_owned(), WorkerManagerSettings::default()));
    }
    let port = overrides.port.or(config.top.port);
    let host = overrides.host.as_ref().or(config.top.host.as_ref());
    if let Some((_, settings)) = entries.iter_mut().find(|(_, settings)| is_open(settings)) {
        settings.port = port.unwrap_or(settings.port);
        // Whoever asks for a port wants a listener there.
        let written = settings.host.take().filter(|host| overrides.port.is_none() || host != HOST_NONE);
        settings.host = host.cloned().or(written);
    }
    entries.retain(|(_, settings)| !(is_open(settings) && settings.host.as_deref() == Some(HOST_NONE)));
    entries
}

fn listener((name, settings): &(String, WorkerManagerSettings)) -> Result<ListenerSettings, ConfigError> {
    let addresses = addresses(settings.host.as_deref(), settings.port)
        .map_err(|cause| ConfigError::Listener { worker: name.clone(), cause })?;
    Ok(ListenerSettings {
        built_in: None,
        name: name.clone(),
        first_address_suffices: addresses.len() > 1,
        addresses,
        handshake_timeout_ms: settings.handshake_timeout_ms,
        allowed_origins: settings.allowed_origins.clone(),
        middleware_function_id: settings.middleware_function_id.clone(),
        access_rules: settings.rbac.as_ref().map(access_rules),
    })
}

/// Addresses of a host. Without one, both loopback addresses: clients say `localhost` and may try `::1` first (CFG-50).
pub fn addresses(host: Option<&str>, port: u16) -> Result<Vec<SocketAddr>, String> {
    let Some(host) = host else {
        let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
        return Ok(loopback.map(|address| SocketAddr::new(address, port)).to_vec());
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let found = (host, port).to_socket_addrs().map_err(|error| format!("cannot resolve host '{host}': {error}"))?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    // The first address is the one shown, and the one that must work; people expect 127.0.0.1 for localhost.
    addresses.sort_by_key(|address| !address.is_ipv4());
    match addresses.is_empty() {
        true => Err(format!("cannot resolve host '{host}': no address")),
        false => Ok(addresses),
    }
}

fn access_rules(rbac: &RbacSettings) -> AccessRules {
    AccessRules {
        auth_function_id: rbac.auth_function_id.clone(),
        expose_functions: rbac.expose_functions.iter().map(filter).collect(),
        on_function_registration_function_id: rbac.on_function_registration_function_id.clone(),
        on_trigger_registration_function_id: rbac.on_trigger_registration_function_id.clone(),
        on_trigger_type_registration_function_id: rbac.on_trigger_type_registration_function_id.clone(),
    }
}

fn filter(filter: &FunctionFilter) -> ShardFilter {
    let rule = |value: &Value| match value.as_str().and_then(settings::match_pattern) {
        Some(pattern) => MetadataRule::Pattern(pattern.to_owned()),
        None => MetadataRule::Exactly(value.to_string()),
    };
    let in_namespace = |namespace: &Option<String>| namespace.clone().unwrap_or_else(|| "default".to_owned());
    match filter {
        FunctionFilter::Id { pattern, namespace } => {
            ShardFilter::Id { pattern: pattern.clone(), namespace: in_namespace(namespace) }
        }
        FunctionFilter::Metadata { members, namespace } => ShardFilter::Metadata {
            members: members.iter().map(|(key, value)| (key.clone(), rule(value))).collect(),
            namespace: in_namespace(namespace),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Surroundings, parse_text};

    fn shown(text: &str, port: Option<u16>, host: Option<&str>) -> Vec<String> {
        let surroundings = Surroundings { variable: Box::new(|_| None), ..Surroundings::process() };
        let (config, _) = parse_text(Path::new("c"), text.to_owned(), &surroundings).expect("valid");
        let overrides = Overrides { port, host: host.map(str::to_owned), shards: None };
        let line = |listener: &ListenerSettings| {
            let addresses: Vec<String> = listener.addresses.iter().map(ToString::to_string).collect();
            format!("{} {}", listener.name, addresses.join(" "))
        };
        listeners(&config, &overrides).expect("resolves").iter().map(line).collect()
    }

    const RBAC_ONLY: &str = "workers: [{name: iii-worker-manager, config: {port: 49135, rbac: {}}}]";

    #[test]
    fn cfg_50_51_52_addresses() {
        let manager = "iii-worker-manager";
        for (text, port, host, expected) in [
            ("", None, None, &["iii-worker-manager 127.0.0.1:49134 [::1]:49134"][..]),
            ("", Some(5), None, &["iii-worker-manager 127.0.0.1:5 [::1]:5"]),
            ("", None, Some("0.0.0.0"), &["iii-worker-manager 0.0.0.0:49134"]),
            ("port: 7", None, None, &["iii-worker-manager 127.0.0.1:7 [::1]:7"]),
            ("port: 7\nhost: '::'", Some(5), None, &["iii-worker-manager [::]:5"]),
            (
                "workers: [{name: iii-worker-manager, config: {port: 1, host: 127.0.0.1}}, {name: iii-worker-manager, config: {port: 2}}]",
                Some(9),
                None,
                &["iii-worker-manager 127.0.0.1:9", "iii-worker-manager#1 127.0.0.1:2 [::1]:2"],
            ),
            (
                RBAC_ONLY,
                None,
                None,
                &["iii-worker-manager 127.0.0.1:49135 [::1]:49135", "iii-worker-manager 127.0.0.1:49134 [::1]:49134"],
            ),
            (
                RBAC_ONLY,
                Some(5),
                None,
                &["iii-worker-manager 127.0.0.1:49135 [::1]:49135", "iii-worker-manager 127.0.0.1:5 [::1]:5"],
            ),
            (
                "workers: [{name: worker-manager, config: {port: 49135, rbac: {}}}, {name: worker-manager, config: {host: none}}]",
                None,
                None,
                &["iii-worker-manager 127.0.0.1:49135 [::1]:49135"],
            ),
        ] {
            assert_eq!(shown(text, port, host), expected, "{manager}: {text}");
        }
    }
}
