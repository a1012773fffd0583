//! Settings of a line in force, and what is known of it.

use super::*;

impl Queue {
    /// The settings in force are those of the last trigger; each trigger brings its own slots (QUEUE-47).
    pub(in crate::workers::queue) fn retune(&mut self, index: usize, host: &mut dyn Host) {
        let entry = &mut self.lines[index];
        let slots = entry.triggers.iter().map(|trigger| trigger.tuning.slots).fold(0u32, u32::saturating_add);
        let Some(last) = entry.triggers.last() else {
            entry.line.tuning.slots = 0;
            return;
        };
        let tuning = Tuning { slots, ..last.tuning.clone() };
        let waiting = if entry.line.tuning.fifo != tuning.fifo { entry.line.drain() } else { Vec::new() };
        entry.line.tuning = tuning;
        let now = host.now().unix_ms;
        for job in waiting {
            self.lines[index].line.push(job, false, now);
        }
    }

    pub(in crate::workers::queue) fn remember(&mut self, index: usize) {
        let record = self.describe(index);
        if let Some(disk) = &self.disk {
            let mut changes = Changes::default();
            changes.describe(&self.lines[index].key, &record);
            disk.note(changes);
        }
    }

    /// What a topic has collected goes to its first destination.
    pub(in crate::workers::queue) fn release_held(&mut self, topic: &str, to: usize, host: &mut dyn Host) {
        let Some(held) = self.by_key.get(&*format!("h:{topic}")).copied() else { return };
        let Kind::Destination(target) = self.lines[to].kind.clone() else { return };
        let now = host.now().unix_ms;
        let mut changes = Changes::default();
        let jobs = self.lines[held].line.drain();
        let (key, mut moved) = (self.lines[held].key.clone(), Vec::new());
        for mut job in jobs {
            changes.remove(&key, job.seq);
            if now.saturating_sub(job.head.enqueued_ms) > HELD_MS {
                continue;
            }
            job.seq = self.next_seq(to, &mut changes);
            job.head.target = target.clone();
            changes.insert(&self.lines[to].key, &job);
            moved.push(job);
        }
        let durable = self.disk.is_some();
        if let Some(disk) = &self.disk {
            disk.note(changes);
        }
        for job in moved {
            self.lines[to].line.push(job, durable, now);
        }
        // What is on disk only follows.
        self.pump(held, host);
    }

    /// If this line holds messages of a topic that has a destination by now: the topic, and the destination.
    pub(in crate::workers::queue) fn subscriber_of_held(&self, index: usize) -> Option<(Rc<str>, usize)> {
        let entry = &self.lines[index];
        let of_topic = self.by_name.get(&entry.name).filter(|_| entry.kind == Kind::Held)?;
        let to = of_topic.iter().find(|other| matches!(self.lines[**other].kind, Kind::Destination(_)))?;
        Some((entry.name.clone(), *to))
    }

    pub(in crate::workers::queue) fn info(&self, index: usize) -> LineInfo {
        let entry = &self.lines[index];
        let consumers = match entry.kind {
            Kind::Queue => u64::from(entry.line.tuning.slots),
            _ => entry.triggers.len() as u64,
        };
        LineInfo {
            depth: entry.line.waiting() + entry.line.running(),
            consumers,
            dead: entry.line.dead.len() as u64,
            delayed: entry.line.delayed(),
            running: entry.line.running(),
            oldest_ms: entry.line.oldest_ms(),
            delivered: entry.line.delivered,
            failed: entry.line.failed,
        }
    }
}
