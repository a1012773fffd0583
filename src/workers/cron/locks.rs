//! Locks in Redis: of several engines one runs a job's tick, and nobody runs a job that runs already (CRON-DB-1).
//!
//! A tick is claimed for good, a run lock is held while the job runs, renewed, and given back only by its holder.

use super::jobs::RunId;
use crate::egress;
use crate::workers::redis::Link;
use iii_shards::builtin::{Host, Mailbox};
use redis::Script;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::sync::oneshot;

/// Shortest life of a claim on a tick: engines' clocks may differ by half of it.
const TICK_TTL_MS_MIN: u64 = 60_000;

/// Takes tick and run lock, or neither. 1 = taken, also when the same holder asks again.
static CLAIM: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local tick = redis.call('GET', KEYS[1]) \
         if tick then return tick == ARGV[1] and 1 or 0 end \
         if not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return 0 end \
         redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[3]) \
         return 1",
    )
});

static RENEW: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0",
    )
});

static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new("if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0")
});

/// What came of a claim: `Ok(false)` = another engine has the tick, or runs the job.
pub struct LockAnswer {
    /// Which run asked.
    pub run: RunId,
    /// Whether it may run. `Err` = nobody knows.
    pub outcome: Result<bool, String>,
}

/// A claim or a lock; dropping it gives the lock back.
pub struct Held {
    _release: oneshot::Sender<()>,
}

/// Locks that engines with the same Redis share.
#[derive(Clone)]
pub struct Locks {
    link: Link,
    prefix: Arc<str>,
    ttl_ms: u64,
}

/// One run lock.
struct Lock {
    link: Link,
    key: String,
    holder: String,
    ttl_ms: u64,
}

impl Locks {
    /// Locks under keys that start with `prefix`; a run lock that is not renewed for `ttl_ms` is free again.
    pub fn new(link: Link, prefix: String, ttl_ms: u64) -> Locks {
        Locks { link, prefix: prefix.into(), ttl_ms }
    }

    /// Claims a tick, in seconds since 1970. The answer comes as a [`LockAnswer`] to the caller's mailbox.
    pub fn claim(&self, run: RunId, identity: String, tick_s: i64, host: &mut dyn Host) -> Held {
        let (release, released) = oneshot::channel();
        let tick = format!("{}:cron:tick:{identity}:{tick_s}", self.prefix);
        let lock = Lock {
            link: self.link.clone(),
            key: format!("{}:cron:run:{identity}", self.prefix),
            holder: host.new_uuid().to_string(),
            ttl_ms: self.ttl_ms,
        };
        egress::spawn(lock.live(tick, run, host.mailbox(), released));
        Held { _release: release }
    }
}

impl Lock {
    async fn live(self, tick: String, run: RunId, mailbox: Mailbox, mut released: oneshot::Receiver<()>) {
        let outcome = self.claim(&tick).await;
        let taken = outcome == Ok(true);
        mailbox.post(Box::new(LockAnswer { run, outcome }));
        if !taken {
            return;
        }
        let mut renewals = tokio::time::interval(Duration::from_millis((self.ttl_ms / 3).max(1)));
        renewals.tick().await;
        loop {
            tokio::select! {
                _ = &mut released => break,
                _ = renewals.tick() => match self.script(&RENEW, &[self.ttl_ms]).await {
                    Ok(true) => {}
                    Ok(false) => {
                        tracing::warn!("The lock {} was lost while its job runs", self.key);
                        let _ = (&mut released).await;
                        break;
                    }
                    Err(error) => tracing::warn!("The lock {} was not renewed: {error}", self.key),
                },
            }
        }
        if let Err(error) = self.script(&RELEASE, &[]).await {
            tracing::warn!("The lock {} was not given back, it ends by itself: {error}", self.key);
        }
    }

    async fn claim(&self, tick: &str) -> Result<bool, String> {
        let tick_ttl_ms = TICK_TTL_MS_MIN.max(2 * self.ttl_ms);
        let mut claim = CLAIM.key(tick);
        claim.key(&self.key).arg(&self.holder).arg(self.ttl_ms).arg(tick_ttl_ms);
        let ask = async || self.link.run(async |mut connection| claim.invoke_async(&mut connection).await).await;
        match ask().await {
            // The connection may be the one that a restarted server has forgotten.
            Err(_) => ask().await,
            answered => answered,
        }
    }

    async fn script(&self, script: &Script, arguments: &[u64]) -> Result<bool, String> {
        let mut script = script.key(&self.key);
        script.arg(&self.holder).arg(arguments);
        self.link.run(async |mut connection| script.invoke_async(&mut connection).await).await
    }
}
