//! State in Redis: one hash per scope, shared with other engines (STATE-80).
//!
//! Each shard sends the calls about its scopes to the egress thread. Those about one key run one after the other;
//! a list waits for what was asked of its scope before it. `update` reads, applies, and writes if nobody else has
//! written meanwhile; the server never sees an operation, so it can't bend a number (STATE-DB-5).

use super::changes::Kind;
use super::request::{self, Function};
use crate::egress;
use crate::workers::redis::Link;
use crate::workers::update;
use iii_shards::builtin::{Call, Failure, Mailbox};
use iii_shards::wire::json::{validate, write_string};
use redis::Script;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// Calls of one shard that may be under way or waiting.
const CALLS_MAX: usize = 1 << 14;
/// How long one call may take (STATE-DB-6).
const TIMEOUT: Duration = Duration::from_secs(5);
/// Names asked for at a time by `list_groups`.
const SCAN_COUNT: usize = 1000;
/// What the keys of scopes begin with.
const PREFIX: &str = "state:";

static SET: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local old = redis.call('HGET', KEYS[1], ARGV[1]) \
         redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) return old",
    )
});
static DELETE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local old = redis.call('HGET', KEYS[1], ARGV[1]) \
         redis.call('HDEL', KEYS[1], ARGV[1]) return old",
    )
});
/// Writes if the value is still what it was read as; says what it is otherwise.
static COMPARE_AND_SET: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local old = redis.call('HGET', KEYS[1], ARGV[1]) \
         if (ARGV[2] == '0' and not old) or (ARGV[2] == '1' and old == ARGV[3]) then \
         redis.call('HSET', KEYS[1], ARGV[1], ARGV[4]) return {1, false} end \
         return {0, old}",
    )
});

/// The way from one shard to Redis.
pub struct Remote {
    link: Link,
    mailbox: Mailbox,
    scopes: HashMap<Arc<str>, Lanes>,
    running: HashMap<u64, Job>,
    begun: u64,
}

/// The calls about one scope that have not ended.
#[derive(Default)]
struct Lanes {
    numbers: BTreeSet<u64>,
    /// Keys with a call under way, and the calls behind it.
    keys: HashMap<Arc<str>, VecDeque<u64>>,
    /// Lists that wait for calls with lower numbers.
    lists: VecDeque<u64>,
}

/// One call.
pub struct Job {
    /// To be answered; its payload is on the way.
    pub call: Call,
    /// What it calls.
    pub function: Function,
    /// Scope it is about.
    pub scope: Arc<str>,
    /// Key it is about, if it is about one.
    pub key: Arc<str>,
    max_value_bytes: Option<u64>,
}

/// What came of a call.
pub struct Finished {
    number: u64,
    /// The answer, or the error.
    pub outcome: Result<Effect, Failure>,
}

/// What happened to a key, its old value and its new one.
pub type Replaced = (Kind, Option<Vec<u8>>, Option<Vec<u8>>);

/// The answer of a call and the change it made.
#[derive(Debug, Default)]
pub struct Effect {
    /// Answer of a call that changes nothing; of the others it follows from the change.
    pub answer: Vec<u8>,
    /// What was done to the key, its old and its new value.
    pub change: Option<Replaced>,
    /// Operations of an update that failed.
    pub errors: Vec<update::OpError>,
}

// === impl Remote ===

impl Remote {
    /// The way from the shard whose mailbox this is.
    pub fn new(link: Link, mailbox: Mailbox) -> Remote {
        let (scopes, running) = (HashMap::new(), HashMap::new());
        Remote { link, mailbox, scopes, running, begun: 0 }
    }

    /// Takes a call; `Err` = too many are waiting. It ends with a [`Finished`] in the mailbox.
    pub fn start(&mut self, call: Call, function: Function, max_value_bytes: Option<u64>) -> Result<(), Failure> {
        if self.running.len() >= CALLS_MAX {
            return Err(function.failed("too many calls wait for Redis"));
        }
        let (scope, key): (Option<Arc<str>>, Option<Arc<str>>) = match function {
            Function::ListGroups | Function::OnConfigChange => {
                request::list_groups(&call.data)?;
                (None, None)
            }
            Function::List => (Some((&*request::list(&call.data)?.0).into()), None),
            _ => {
                let name = request::name(&call.data, function)?;
                (Some((&*name.scope).into()), Some((&*name.key).into()))
            }
        };
        self.begun += 1;
        let number = self.begun;
        let job = Job {
            call,
            function,
            scope: scope.clone().unwrap_or_default(),
            key: key.clone().unwrap_or_default(),
            max_value_bytes,
        };
        self.running.insert(number, job);
        let Some(scope) = scope else {
            self.send(number);
            return Ok(());
        };
        let lanes = self.scopes.entry(scope).or_default();
        let first = lanes.numbers.is_empty();
        lanes.numbers.insert(number);
        let starts = match key {
            None if first => true,
            None => {
                lanes.lists.push_back(number);
                false
            }
            Some(key) => match lanes.keys.get_mut(&key) {
                Some(behind) => {
                    behind.push_back(number);
                    false
                }
                None => {
                    lanes.keys.insert(key, VecDeque::new());
                    true
                }
            },
        };
        if starts {
            self.send(number);
        }
        Ok(())
    }

    /// Takes the end of a call and starts what has waited for it.
    pub fn finish(&mut self, finished: &Finished) -> Option<Job> {
        let number = finished.number;
        let job = self.running.remove(&number)?;
        let Some(lanes) = self.scopes.get_mut(&job.scope) else { return Some(job) };
        if !lanes.numbers.remove(&number) {
            return Some(job);
        }
        let mut ready = Vec::new();
        if job.function != Function::List
            && let Some(behind) = lanes.keys.get_mut(&job.key)
        {
            match behind.pop_front() {
                Some(next) => ready.push(next),
                None => drop(lanes.keys.remove(&job.key)),
            }
        }
        while let Some(list) = lanes.lists.front().copied().filter(|list| lanes.numbers.first() == Some(list)) {
            ready.push(list);
            lanes.lists.pop_front();
            // The lists right behind it have nothing else to wait for.
            lanes.numbers.remove(&list);
        }
        if lanes.numbers.is_empty() && lanes.keys.is_empty() {
            self.scopes.remove(&job.scope);
        }
        ready.into_iter().for_each(|number| self.send(number));
        Some(job)
    }

    fn send(&mut self, number: u64) {
        let Some(job) = self.running.get_mut(&number) else { return };
        let asked = Asked {
            function: job.function,
            data: std::mem::take(&mut job.call.data),
            max_value_bytes: job.max_value_bytes,
        };
        let (link, mailbox) = (self.link.clone(), self.mailbox.clone());
        egress::spawn(async move {
            let outcome = tokio::time::timeout(TIMEOUT, asked.run(&link)).await;
            let outcome = outcome.unwrap_or_else(|_| Err(asked.function.failed("Redis did not answer within 5 s")));
            mailbox.post(Box::new(Finished { number, outcome }));
        });
    }
}

/// A call, on the egress thread.
struct Asked {
    function: Function,
    data: Vec<u8>,
    max_value_bytes: Option<u64>,
}

impl Asked {
    async fn run(&self, link: &Link) -> Result<Effect, Failure> {
        match self.function {
            Function::Set => self.set(link).await,
            Function::Get => self.get(link).await,
            Function::Delete => self.delete(link).await,
            Function::Update => self.update(link).await,
            Function::List => self.list(link).await,
            Function::ListGroups | Function::OnConfigChange => self.list_groups(link).await,
        }
    }

    fn failed(&self, cause: String) -> Failure {
        self.function.failed(&cause)
    }

    async fn get(&self, link: &Link) -> Result<Effect, Failure> {
        let name = request::name(&self.data, self.function)?;
        let value = self.read(link, &name).await?;
        Ok(Effect { answer: value.unwrap_or_default(), ..Effect::default() })
    }

    async fn read(&self, link: &Link, name: &request::Name<'_>) -> Result<Option<Vec<u8>>, Failure> {
        let (hash, field) = (hash_of(&name.scope), name.key.as_bytes().to_vec());
        let mut command = redis::cmd("HGET");
        command.arg(hash).arg(field);
        let read = link
            .run(move |mut connection| async move { command.query_async::<Option<Vec<u8>>>(&mut connection).await });
        let value = read.await.map_err(|cause| self.failed(cause))?;
        match value {
            Some(value) if !is_json(&value) => Err(self.failed("what Redis holds is not JSON".to_owned())),
            value => Ok(value),
        }
    }

    async fn set(&self, link: &Link) -> Result<Effect, Failure> {
        let (name, value) = request::set(&self.data)?;
        request::check_size(value, self.max_value_bytes)?;
        let value = request::compact(value);
        let mut script = SET.prepare_invoke();
        script.key(hash_of(&name.scope)).arg(name.key.as_bytes()).arg(&value);
        let write = link
            .run(move |mut connection| async move { script.invoke_async::<Option<Vec<u8>>>(&mut connection).await });
        let old = write.await.map_err(|cause| self.failed(cause))?;
        let kind = if old.is_some() { Kind::Updated } else { Kind::Created };
        Ok(Effect { change: Some((kind, old.filter(|old| is_json(old)), Some(value))), ..Effect::default() })
    }

    async fn delete(&self, link: &Link) -> Result<Effect, Failure> {
        let name = request::name(&self.data, self.function)?;
        let mut script = DELETE.prepare_invoke();
        script.key(hash_of(&name.scope)).arg(name.key.as_bytes());
        let delete = link
            .run(move |mut connection| async move { script.invoke_async::<Option<Vec<u8>>>(&mut connection).await });
        let old = delete.await.map_err(|cause| self.failed(cause))?.filter(|old| is_json(old));
        Ok(Effect { change: Some((Kind::Deleted, old, None)), ..Effect::default() })
    }

    async fn update(&self, link: &Link) -> Result<Effect, Failure> {
        let (name, ops) = request::update(&self.data)?;
        let mut old = self.read(link, &name).await?;
        // Ends at the latest when the call's time is up.
        loop {
            let updated = update::apply(old.as_deref(), &ops);
            request::check_size(&updated.value, self.max_value_bytes)?;
            let new = request::compact(&updated.value);
            let mut script = COMPARE_AND_SET.prepare_invoke();
            let known = if old.is_some() { "1" } else { "0" };
            script.key(hash_of(&name.scope)).arg(name.key.as_bytes());
            script.arg(known).arg(old.as_deref().unwrap_or_default()).arg(&new);
            let write = link.run(move |mut connection| async move {
                script.invoke_async::<(u8, Option<Vec<u8>>)>(&mut connection).await
            });
            let (written, now) = write.await.map_err(|cause| self.failed(cause))?;
            if written == 1 {
                let kind = if old.is_some() { Kind::Updated } else { Kind::Created };
                return Ok(Effect {
                    change: Some((kind, old, Some(new))),
                    errors: updated.errors,
                    ..Effect::default()
                });
            }
            if now.as_ref().is_some_and(|now| !is_json(now)) {
                return Err(self.failed("what Redis holds is not JSON".to_owned()));
            }
            old = now;
        }
    }

    async fn list(&self, link: &Link) -> Result<Effect, Failure> {
        let (scope, include_keys) = request::list(&self.data)?;
        let mut command = redis::cmd("HGETALL");
        command.arg(hash_of(&scope));
        let read = link.run(move |mut connection| async move {
            command.query_async::<Vec<(Vec<u8>, Vec<u8>)>>(&mut connection).await
        });
        let entries = read.await.map_err(|cause| self.failed(cause))?;
        let mut answer = b"[".to_vec();
        for (key, value) in entries.iter().filter(|(_, value)| is_json(value)) {
            if answer.len() > 1 {
                answer.push(b',');
            }
            request::write_listed(&mut answer, &String::from_utf8_lossy(key), value, include_keys);
        }
        answer.push(b']');
        Ok(Effect { answer, ..Effect::default() })
    }

    async fn list_groups(&self, link: &Link) -> Result<Effect, Failure> {
        let mut groups = BTreeSet::new();
        let mut cursor = 0u64;
        loop {
            let mut command = redis::cmd("SCAN");
            command.arg(cursor).arg("MATCH").arg(format!("{PREFIX}*")).arg("COUNT").arg(SCAN_COUNT);
            let scan = link.run(move |mut connection| async move {
                command.query_async::<(u64, Vec<Vec<u8>>)>(&mut connection).await
            });
            let (next, keys) = scan.await.map_err(|cause| self.failed(cause))?;
            let scopes = keys.iter().filter_map(|key| key.strip_prefix(PREFIX.as_bytes()));
            groups.extend(scopes.map(|scope| String::from_utf8_lossy(scope).into_owned()));
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        let mut answer = b"{\"groups\":[".to_vec();
        for (index, group) in groups.iter().enumerate() {
            if index > 0 {
                answer.push(b',');
            }
            write_string(&mut answer, group);
        }
        answer.extend_from_slice(b"]}");
        Ok(Effect { answer, ..Effect::default() })
    }
}

fn hash_of(scope: &str) -> String {
    format!("{PREFIX}{scope}")
}

/// Whether a text of somebody else's may be passed on.
fn is_json(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok() && validate(text).is_ok()
}
