//! Functions that look at queues and topics and put their dead letters back (QUEUE-56 to 60).

use super::Letter;
use super::input::{self, Which};
use super::tuning::Tuning;
use super::worker::{Kind, Queue};
use crate::config::settings::{NamedQueueSettings, QueueKind};
use iii_shards::builtin::{Call, CallId, Failure, Host};
use iii_shards::ids::ShardId;
use serde_json::{Value, json};

/// Figures of one line.
#[derive(Debug, Clone, Copy, Default)]
pub struct LineInfo {
    pub depth: u64,
    pub consumers: u64,
    pub dead: u64,
    pub delayed: u64,
    pub running: u64,
    pub oldest_ms: Option<u64>,
    pub delivered: u64,
    pub failed: u64,
}

/// What is gathered from all instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    Topics,
    Dead,
}

/// A list that is being put together.
pub struct Gather {
    call: CallId,
    missing: usize,
    rows: Vec<Value>,
}

impl Queue {
    pub(super) fn administer(&mut self, which: Which, call: &Call, host: &mut dyn Host) -> Result<(), Failure> {
        let id = &*call.function_id;
        let answer = match which {
            Which::Enqueue | Which::Publish => return Ok(()),
            Which::ListTopics => return self.gather(List::Topics, call.id, host),
            Which::DlqTopics => return self.gather(List::Dead, call.id, host),
            Which::OnConfigChange => json!({"ok": true}),
            Which::Redrive => {
                let input: input::Redrive = input::read(id, &call.data)?;
                named(&input.queue)?;
                let mut count = 0;
                for index in self.lines_of(&input.queue) {
                    count += self.redrive(index, |_| true, host);
                }
                json!({"queue": input.queue, "redriven": count})
            }
            Which::RedriveMessage | Which::DiscardMessage | Which::Cancel => {
                let input: input::OneMessage = input::read(id, &call.data)?;
                named(&input.queue)?;
                if input.message_id.is_empty() {
                    return Err(Failure::new("message_id_not_set", "Message ID is required"));
                }
                let mut count = 0;
                for index in self.lines_of(&input.queue) {
                    count += match which {
                        Which::RedriveMessage => self.redrive(index, |dead| dead.job.head.is(&input.message_id), host),
                        Which::DiscardMessage => self.discard(index, &input.message_id),
                        _ => self.cancel(index, &input.message_id, host),
                    };
                }
                match which {
                    Which::Cancel => json!({"cancelled": count}),
                    _ => json!({"queue": input.queue, "message_id": input.message_id, "redriven": count}),
                }
            }
            Which::TopicStats => {
                let input: input::Stats = input::read(id, &call.data)?;
                topic(&input.topic)?;
                self.stats(&input.topic, host.now().unix_ms)
            }
            Which::DlqMessages => {
                let input: input::Messages = input::read(id, &call.data)?;
                topic(&input.topic)?;
                self.dead_letters(&input)
            }
            Which::Define => self.define(&input::read(id, &call.data)?, host)?,
        };
        host.answer(call.id, Ok(answer.to_string().as_bytes()));
        Ok(())
    }

    /// Lines of a name: the named queue if there is one, else all of the topic (QUEUE-60a).
    fn lines_of(&self, name: &str) -> Vec<usize> {
        match self.queue(name) {
            Some(index) => vec![index],
            None => self.by_name.get(name).cloned().unwrap_or_default(),
        }
    }

    fn stats(&self, name: &str, now: u64) -> Value {
        let mut sum = LineInfo::default();
        for index in self.lines_of(name) {
            let one = self.info(index);
            sum.depth += one.depth;
            sum.consumers += one.consumers;
            sum.dead += one.dead;
            sum.delayed += one.delayed;
            sum.running += one.running;
            sum.delivered += one.delivered;
            sum.failed += one.failed;
            sum.oldest_ms = sum.oldest_ms.into_iter().chain(one.oldest_ms).min();
        }
        json!({
            "depth": sum.depth,
            "consumer_count": sum.consumers,
            "dlq_depth": sum.dead,
            "config": null,
            "delayed": sum.delayed,
            "running": sum.running,
            "oldest_age_ms": sum.oldest_ms.map_or(0, |oldest| now.saturating_sub(oldest)),
            "delivered": sum.delivered,
            "failed": sum.failed,
        })
    }

    fn dead_letters(&self, input: &input::Messages) -> Value {
        let mut dead: Vec<_> = self
            .lines_of(&input.topic)
            .into_iter()
            .flat_map(|index| self.lines[index].line.dead.iter().rev())
            .collect();
        dead.sort_by_key(|dead| std::cmp::Reverse(dead.end.failed_ms));
        let (offset, limit) = (input.offset as usize, input.limit as usize);
        dead.into_iter().skip(offset).take(limit).map(|dead| dead.show()).collect()
    }

    /// QUEUE-39.
    fn define(&mut self, input: &input::Define, host: &mut dyn Host) -> Result<Value, Failure> {
        named(&input.queue)?;
        let refuse = |message: String| Failure::new("invalid_queue_config", message);
        let name = &input.queue;
        let settings: NamedQueueSettings = match &input.config {
            None => NamedQueueSettings::default(),
            Some(config) => serde_json::from_value(config.clone()).map_err(|error| refuse(error.to_string()))?,
        };
        if let QueueKind::Unknown(kind) = &settings.r#type {
            return Err(refuse(format!("Queue '{name}' has invalid type '{kind}'. Must be 'standard' or 'fifo'")));
        }
        if settings.r#type == QueueKind::Fifo && settings.message_group_field.is_none() {
            return Err(refuse(format!("Queue '{name}' is of type 'fifo' but 'message_group_field' is not set")));
        }
        if settings.concurrency == 0 {
            return Err(refuse(format!("Queue '{name}' has 'concurrency' 0; it must be at least 1")));
        }
        if settings.max_priority == Some(0) {
            return Err(refuse(format!("Queue '{name}' has 'max_priority' 0; it must be between 1 and 255")));
        }
        let changed = self.configure(name, Tuning::of_queue(&settings), host);
        Ok(json!({"queue": name, "changed": changed}))
    }

    // === lists over all shards ===

    fn gather(&mut self, what: List, call: CallId, host: &mut dyn Host) -> Result<(), Failure> {
        let ticket = self.ticket();
        let shards = host.shards();
        self.gathers.insert(ticket, Gather { call, missing: shards, rows: Vec::new() });
        for shard in 0..shards {
            let letter = Letter::Ask { from: host.shard(), ticket, what };
            host.post(ShardId(shard as u16), Box::new(letter));
        }
        Ok(())
    }

    pub(super) fn gathered(&mut self, ticket: u64, rows: Vec<Value>, host: &mut dyn Host) {
        let Some(gather) = self.gathers.get_mut(&ticket) else { return };
        gather.rows.extend(rows);
        gather.missing -= 1;
        if gather.missing == 0
            && let Some(gather) = self.gathers.remove(&ticket)
        {
            host.answer(gather.call, Ok(Value::Array(gather.rows).to_string().as_bytes()));
        }
    }

    pub(super) fn rows(&self, what: List) -> Vec<Value> {
        let mut rows = Vec::new();
        for name in self.by_name.keys() {
            let queue = self.queue(name);
            let lines = self.lines_of(name);
            let infos: Vec<LineInfo> = lines.iter().map(|index| self.info(*index)).collect();
            let consumers: u64 = infos.iter().map(|info| info.consumers).sum();
            let dead: u64 = infos.iter().map(|info| info.dead).sum();
            let depth: u64 = infos.iter().map(|info| info.depth).sum();
            let held = lines.iter().any(|index| self.lines[*index].kind == Kind::Held);
            let kind = if queue.is_some() { "function_queue" } else { "builtin" };
            match what {
                List::Topics if queue.is_some() || consumers > 0 || depth > 0 && !held => {
                    rows.push(json!({"name": &**name, "broker_type": kind, "subscriber_count": consumers}));
                }
                List::Dead if queue.is_some() || consumers > 0 || dead > 0 => {
                    rows.push(json!({"topic": &**name, "broker_type": kind, "message_count": dead}));
                }
                _ => {}
            }
        }
        rows
    }
}

fn named(queue: &str) -> Result<(), Failure> {
    match queue {
        "" => Err(Failure::new("queue_not_set", "Queue name is required")),
        _ => Ok(()),
    }
}

fn topic(topic: &str) -> Result<(), Failure> {
    match topic {
        "" => Err(Failure::new("topic_required", "topic is required")),
        _ => Ok(()),
    }
}
