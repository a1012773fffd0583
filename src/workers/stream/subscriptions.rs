//! Hot path: the subscriptions of one shard's sockets, found by group and item.
//!
//! An event visits exactly those it is meant for; adding and removing one costs the same however many there are.

use super::letter::Ticket;
use super::name::GroupName;
use slab::Slab;
use std::collections::HashMap;
use std::sync::Arc;

/// How a subscription stands to its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It gets events.
    Live,
    /// The state has been asked for, under this number; events before it are part of it.
    Waiting(u64),
    /// It has missed events and needs the state once its socket has room.
    Behind,
}

/// One subscription.
#[derive(Debug)]
pub struct Subscription {
    /// Its connection: slot in the table of browsers.
    pub connection: u32,
    /// `subscriptionId`
    pub id: Box<str>,
    /// The group.
    pub group: Arc<GroupName>,
    /// One item, or all.
    pub item: Option<Box<str>>,
    /// How it stands.
    pub standing: Standing,
    /// Where it is in the list it belongs to.
    place: u32,
}

#[derive(Debug, Default)]
struct Audience {
    everything: Vec<u32>,
    items: HashMap<Box<str>, Vec<u32>>,
}

/// The subscriptions of one shard.
#[derive(Debug, Default)]
pub struct Subscriptions {
    table: Slab<Subscription>,
    groups: HashMap<Arc<GroupName>, Audience>,
    tickets: u64,
}

impl Subscriptions {
    /// Adds a subscription that waits for the state.
    pub fn add(&mut self, connection: u32, id: &str, group: Arc<GroupName>, item: Option<&str>) -> Ticket {
        let group = match self.groups.get_key_value(&group) {
            Some((known, _)) => known.clone(),
            None => group,
        };
        let slot = self.table.vacant_key() as u32;
        let audience = self.groups.entry(group.clone()).or_default();
        let list = audience.list(item);
        let place = list.len() as u32;
        list.push(slot);
        let standing = Standing::Live;
        let item = item.map(Box::from);
        self.table.insert(Subscription { connection, id: id.into(), group, item, standing, place });
        self.ticket(slot)
    }

    /// A new request for the state.
    pub fn ticket(&mut self, slot: u32) -> Ticket {
        self.tickets += 1;
        if let Some(subscription) = self.table.get_mut(slot as usize) {
            subscription.standing = Standing::Waiting(self.tickets);
        }
        Ticket { slot, number: self.tickets }
    }

    /// A subscription.
    pub fn get(&self, slot: u32) -> Option<&Subscription> {
        self.table.get(slot as usize)
    }

    /// A subscription.
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut Subscription> {
        self.table.get_mut(slot as usize)
    }

    /// The subscription that waits under a ticket.
    pub fn waiting(&mut self, ticket: Ticket) -> Option<&mut Subscription> {
        let subscription = self.table.get_mut(ticket.slot as usize)?;
        (subscription.standing == Standing::Waiting(ticket.number)).then_some(subscription)
    }

    /// Removes a subscription. Also says whether it was the last of its group.
    pub fn remove(&mut self, slot: u32) -> Option<(Subscription, bool)> {
        let gone = self.table.try_remove(slot as usize)?;
        let mut last = false;
        if let Some(audience) = self.groups.get_mut(&gone.group) {
            let list = audience.list(gone.item.as_deref());
            list.swap_remove(gone.place as usize);
            let moved = list.get(gone.place as usize).copied();
            if let (true, Some(item)) = (list.is_empty(), gone.item.as_deref()) {
                audience.items.remove(item);
            }
            if let Some(moved) = moved.and_then(|slot| self.table.get_mut(slot as usize)) {
                moved.place = gone.place;
            }
            last = audience.everything.is_empty() && audience.items.is_empty();
        }
        if last {
            self.groups.remove(&gone.group);
        }
        Some((gone, last))
    }

    /// Gives each live subscription that an event is meant for to `deliver`, which says how it stands afterwards.
    #[inline]
    pub fn deliver(&mut self, group: &GroupName, item: Option<&str>, mut deliver: impl FnMut(u32) -> Standing) {
        let Some(audience) = self.groups.get(group) else { return };
        let named = item.and_then(|item| audience.items.get(item)).into_iter().flatten();
        for slot in audience.everything.iter().chain(named) {
            if let Some(subscription) = self.table.get_mut(*slot as usize)
                && subscription.standing == Standing::Live
            {
                subscription.standing = deliver(subscription.connection);
            }
        }
    }

    /// All subscriptions of a group.
    pub fn of_group(&self, group: &GroupName) -> Vec<u32> {
        let Some(audience) = self.groups.get(group) else { return Vec::new() };
        audience.everything.iter().chain(audience.items.values().flatten()).copied().collect()
    }
}

impl Audience {
    fn list(&mut self, item: Option<&str>) -> &mut Vec<u32> {
        match item {
            None => &mut self.everything,
            Some(item) => match self.items.contains_key(item) {
                true => self.items.get_mut(item).expect("it is there"),
                false => self.items.entry(item.into()).or_default(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(subscriptions: &mut Subscriptions, group: &Arc<GroupName>, item: Option<&str>) -> Vec<u32> {
        let mut told = Vec::new();
        subscriptions.deliver(group, item, |connection| {
            told.push(connection);
            Standing::Live
        });
        told.sort_unstable();
        told
    }

    // STREAM-62
    #[test]
    fn events_reach_those_they_are_meant_for() {
        let mut all = Subscriptions::default();
        let (g, h) = (Arc::new(GroupName::new("s", "g")), Arc::new(GroupName::new("s", "h")));
        let mut tickets = Vec::new();
        for (connection, group, item) in
            [(1, &g, None), (2, &g, Some("i")), (3, &g, Some("j")), (4, &h, None), (5, &g, None)]
        {
            tickets.push(all.add(connection, "x", group.clone(), item));
        }
        assert_eq!(told(&mut all, &g, None), Vec::<u32>::new(), "nobody is live before the state has come");
        for ticket in &tickets {
            all.waiting(*ticket).expect("waits").standing = Standing::Live;
        }
        assert_eq!(told(&mut all, &g, None), [1, 5]);
        assert_eq!(told(&mut all, &g, Some("i")), [1, 2, 5]);
        assert_eq!(told(&mut all, &h, Some("i")), [4]);
        assert_eq!(all.remove(tickets[0].slot).map(|(gone, last)| (gone.connection, last)), Some((1, false)));
        assert_eq!(told(&mut all, &g, Some("j")), [3, 5]);
        assert!(all.remove(tickets[0].slot).is_none());
        assert_eq!(all.remove(tickets[3].slot).map(|(_, last)| last), Some(true));
        for (slot, last) in [(tickets[4].slot, false), (tickets[1].slot, false), (tickets[2].slot, true)] {
            assert_eq!(all.remove(slot).map(|(_, last)| last), Some(last));
        }
        assert!(all.groups.is_empty() && all.table.is_empty());
    }

    #[test]
    fn an_old_ticket_finds_nothing() {
        let mut all = Subscriptions::default();
        let old = all.add(1, "x", Arc::new(GroupName::new("s", "g")), None);
        let new = all.ticket(old.slot);
        assert!(all.waiting(old).is_none());
        assert!(all.waiting(new).is_some());
    }
}
