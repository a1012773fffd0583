//! Which listeners stay, come and go when the configuration changes. Pure.

use iii_shards::settings::ListenerSettings;

/// Listeners before and after a change.
#[derive(Debug, Default)]
pub(super) struct Merged {
    /// All listeners by number; closed ones have no address.
    pub listeners: Vec<ListenerSettings>,
    /// Numbers of those to be bound.
    pub opened: Vec<u16>,
    /// Numbers of those to be closed.
    pub closed: Vec<u16>,
    /// Numbers of those whose connections end: closed, or under other rules than before (CFG-96).
    pub ended: Vec<u16>,
}

/// Gives each wanted listener its number. Who listens on an address before and after keeps the socket (CFG-87).
pub(super) fn merge(before: &[ListenerSettings], wanted: Vec<ListenerSettings>) -> Merged {
    let mut merged = Merged { listeners: before.to_vec(), ..Merged::default() };
    let mut kept = vec![false; before.len()];
    for listener in wanted {
        let same = (0..before.len()).find(|number| !kept[*number] && before[*number].addresses == listener.addresses);
        match same {
            Some(number) => {
                kept[number] = true;
                let old = &before[number];
                let rules =
                    |of: &ListenerSettings| (of.access_rules.clone(), of.middleware_function_id.clone(), of.built_in);
                if rules(old) != rules(&listener) {
                    merged.ended.push(number as u16);
                }
                merged.listeners[number] = listener;
            }
            None => {
                merged.opened.push(merged.listeners.len() as u16);
                merged.listeners.push(listener);
            }
        }
    }
    for (number, _) in kept.iter().enumerate().filter(|(_, kept)| !**kept) {
        if !before[number].addresses.is_empty() {
            merged.closed.push(number as u16);
            merged.ended.push(number as u16);
            merged.listeners[number] = ListenerSettings::default();
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(port: u16, middleware: Option<&str>) -> ListenerSettings {
        ListenerSettings {
            addresses: vec![([127, 0, 0, 1], port).into()],
            middleware_function_id: middleware.map(str::to_owned),
            ..ListenerSettings::default()
        }
    }

    // CFG-87, CFG-96
    #[test]
    fn sockets_stay_where_the_address_stays() {
        let before = [listener(1, None), listener(2, None), listener(3, None)];
        let merged = merge(&before, vec![listener(3, None), listener(1, Some("m")), listener(4, None)]);
        assert_eq!((merged.opened, merged.closed, merged.ended), (vec![3], vec![1], vec![0, 1]));
        let ports: Vec<_> = merged.listeners.iter().map(|l| l.addresses.first().map(|a| a.port())).collect();
        assert_eq!(ports, [Some(1), None, Some(3), Some(4)]);
        // A closed number is never used again.
        let again = merge(&merged.listeners, vec![listener(3, None), listener(2, None)]);
        assert_eq!((again.opened, again.closed), (vec![4], vec![0, 3]));
    }

    #[test]
    fn other_settings_end_no_session() {
        let slower = ListenerSettings { handshake_timeout_ms: 5, ..listener(1, None) };
        let merged = merge(&[listener(1, None)], vec![slower]);
        assert!(merged.opened.is_empty() && merged.closed.is_empty() && merged.ended.is_empty());
        assert_eq!(merged.listeners[0].handshake_timeout_ms, 5);
    }
}
