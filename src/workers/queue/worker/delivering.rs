//! Messages on their way to the functions that take them, and what becomes of them.

use super::*;

impl Queue {
    /// Runs what can be run of a line, and asks for what it needs.
    pub(in crate::workers::queue) fn pump(&mut self, index: usize, host: &mut dyn Host) {
        let now = host.now().unix_ms;
        self.lines[index].line.wake(now);
        loop {
            let entry = &mut self.lines[index];
            if let Some(from) = entry.line.wants_refill()
                && let Some(disk) = &self.disk
            {
                entry.line.refilling = disk.refill(index, &entry.key, from);
            }
            let missing = &self.missing;
            let Some(job) = entry.line.take(|target| missing.get(target).is_some_and(|missing| !missing.open)) else {
                break;
            };
            self.begin(index, job, host);
        }
        self.schedule(host);
    }

    pub(in crate::workers::queue) fn begin(&mut self, index: usize, job: Job, host: &mut dyn Host) {
        let condition = self.lines[index].triggers.last().and_then(|trigger| trigger.condition.clone());
        match condition {
            Some(condition) => {
                let mut call = OutgoingCall::new(&job.head.target.namespace, &condition, &job.data);
                call.traceparent = job.head.traceparent.as_deref();
                call.baggage = job.head.baggage.as_deref();
                let token = host.call(&call);
                self.deliveries.insert(token, Delivery { line: index, seq: job.seq, stage: Stage::Condition });
            }
            None => self.run(index, &job, host),
        }
    }

    pub(in crate::workers::queue) fn run(&mut self, index: usize, job: &Job, host: &mut dyn Host) {
        let entry = &self.lines[index];
        let metadata = entry.triggers.last().and_then(|trigger| trigger.metadata.clone());
        let call = OutgoingCall {
            prefer: None,
            namespace: &job.head.target.namespace,
            function_id: &job.head.target.function_id,
            data: &job.data,
            metadata: metadata.as_deref(),
            traceparent: job.head.traceparent.as_deref(),
            baggage: job.head.baggage.as_deref(),
            timeout_ms: entry.line.tuning.timeout_ms,
        };
        let token = host.call(&call);
        self.deliveries.insert(token, Delivery { line: index, seq: job.seq, stage: Stage::Handler });
    }

    pub(in crate::workers::queue) fn ended(&mut self, delivery: &Delivery, outcome: Outcome, host: &mut dyn Host) {
        let Delivery { line: index, seq, stage } = *delivery;
        let Some(job) = self.lines[index].line.running_job(seq) else { return };
        let target = job.head.target.clone();
        match outcome {
            Ok(verdict) if stage == Stage::Condition && verdict != b"false" => {
                let job = job.clone();
                return self.run(index, &job, host);
            }
            Ok(_) => {
                self.present(&target, host);
                if self.lines[index].line.done(seq).is_some()
                    && let Some(disk) = &self.disk
                {
                    let mut changes = Changes::default();
                    changes.remove(&self.lines[index].key, seq);
                    disk.note(changes);
                }
            }
            Err(failure) if stage == Stage::Handler && is_missing(&failure, &target) => {
                self.hold(index, seq, &failure, host);
            }
            Err(failure) => {
                self.present(&target, host);
                self.failed(index, seq, stage, &failure, host);
            }
        }
        self.pump(index, host);
    }

    /// QUEUE-DB-7.
    pub(in crate::workers::queue) fn hold(&mut self, index: usize, seq: u64, failure: &Failure, host: &mut dyn Host) {
        let now = host.now();
        let Some(job) = self.lines[index].line.running_job(seq) else { return };
        let target = job.head.target.clone();
        let hold_max = self.lines[index].line.tuning.hold_max_ms;
        if hold_max > 0 && now.unix_ms.saturating_sub(job.head.enqueued_ms) >= hold_max {
            return self.bury(index, seq, failure, host);
        }
        self.lines[index].line.missing(seq);
        let missing = self.missing.entry(target).or_insert(Missing { again_ms: 0, pause_ms: 0, open: false });
        if missing.open || missing.pause_ms == 0 {
            missing.open = false;
            missing.pause_ms = (missing.pause_ms * 2).clamp(PROBE_MS.0, PROBE_MS.1);
            missing.again_ms = now.ms + missing.pause_ms;
        }
    }

    /// A function is there: what waits for it goes on.
    pub(in crate::workers::queue) fn present(&mut self, target: &Target, host: &mut dyn Host) {
        if self.missing.remove(target).is_none() {
            return;
        }
        for index in 0..self.lines.len() {
            if self.lines[index].line.parked_targets().any(|parked| parked == target) {
                self.lines[index].line.unpark(target, usize::MAX);
                self.pump(index, host);
            }
        }
    }

    /// Looks for missing functions whose time has come: one message of each line is tried.
    pub(in crate::workers::queue) fn probe(&mut self, host: &mut dyn Host) {
        let now = host.now().ms;
        let due: Vec<Target> = self
            .missing
            .iter_mut()
            .filter(|(_, missing)| !missing.open && missing.again_ms <= now)
            .map(|(target, missing)| {
                missing.open = true;
                target.clone()
            })
            .collect();
        for target in due {
            let mut tried = false;
            for index in 0..self.lines.len() {
                if self.lines[index].line.parked_targets().any(|parked| *parked == target) {
                    tried = true;
                    self.lines[index].line.unpark(&target, 1);
                    self.pump(index, host);
                }
            }
            if !tried {
                self.missing.remove(&target);
            }
        }
    }

    pub(in crate::workers::queue) fn failed(
        &mut self,
        index: usize,
        seq: u64,
        stage: Stage,
        failure: &Failure,
        host: &mut dyn Host,
    ) {
        let now = host.now().unix_ms;
        let random = f64::from(host.new_uuid().as_u64_pair().1 as u32) / f64::from(u32::MAX);
        let entry = &mut self.lines[index];
        let Some(job) = entry.line.running_job(seq) else { return };
        let stopped = matches!(&*failure.code, "invocation_stopped" | "worker_overloaded");
        let charged = !stopped || job.head.stops >= STOPS_MAX;
        let Some((job, verdict)) = entry.line.fail(seq, charged, now, random) else { return };
        let failure = match (stage, &*failure.code) {
            (Stage::Condition, _) => Failure {
                message: format!("Condition function error: {}: {}", failure.code, failure.message),
                ..failure.clone()
            },
            (Stage::Handler, "invocation_timeout") => Failure { code: "timeout".into(), ..failure.clone() },
            _ => failure.clone(),
        };
        tracing::warn!(
            function_id = &*job.head.target.function_id,
            queue = &*entry.name,
            attempt = job.head.attempts,
            max_retries = entry.line.tuning.attempts,
            error = failure.message,
            "Function queue job failed"
        );
        match verdict {
            Verdict::Retry(_) => {
                if let Some(disk) = &self.disk {
                    let mut changes = Changes::default();
                    changes.update(&entry.key, &job);
                    disk.note(changes);
                }
            }
            Verdict::Dead => {
                let error = match stage {
                    Stage::Condition => failure.message.clone(),
                    Stage::Handler => format!("{}: {}", failure.code, failure.message),
                };
                self.bury_job(index, job, &error, &failure.code, now);
            }
        }
    }

    pub(in crate::workers::queue) fn bury(&mut self, index: usize, seq: u64, failure: &Failure, host: &mut dyn Host) {
        let Some(job) = self.lines[index].line.done(seq) else { return };
        let error = format!("{}: {}", failure.code, failure.message);
        self.bury_job(index, job, &error, &failure.code, host.now().unix_ms);
    }

    pub(in crate::workers::queue) fn bury_job(&mut self, index: usize, job: Job, error: &str, code: &str, now: u64) {
        let entry = &mut self.lines[index];
        tracing::warn!(
            queue = &*entry.name,
            job_id = &*job.head.id,
            attempts = job.head.attempts,
            "Job exhausted, moved to DLQ"
        );
        let dead = Dead { job, end: End { error: error.into(), code: code.into(), failed_ms: now } };
        let mut changes = Changes::default();
        changes.bury(&entry.key, &dead);
        entry.line.dead.push_back(dead);
        let most = entry.line.tuning.dlq_max;
        while most > 0 && entry.line.dead.len() as u64 > most {
            if let Some(oldest) = entry.line.dead.pop_front() {
                changes.unbury(&entry.key, oldest.job.seq);
            }
        }
        if let Some(disk) = &self.disk {
            disk.note(changes);
        }
    }

    /// Dead letters go back into their line; `which` picks them. Returns how many.
    pub(in crate::workers::queue) fn redrive(
        &mut self,
        index: usize,
        which: impl Fn(&Dead) -> bool,
        host: &mut dyn Host,
    ) -> u64 {
        let (back, kept): (Vec<Dead>, Vec<Dead>) =
            std::mem::take(&mut self.lines[index].line.dead).into_iter().partition(which);
        self.lines[index].line.dead = kept.into();
        let count = back.len() as u64;
        let (now, durable) = (host.now().unix_ms, self.disk.is_some());
        let mut changes = Changes::default();
        let mut jobs = Vec::new();
        for dead in back {
            let old = dead.job.seq;
            let mut job = dead.job;
            job.seq = self.next_seq(index, &mut changes);
            (job.head.attempts, job.head.stops, job.head.not_before_ms) = (0, 0, 0);
            changes.unbury(&self.lines[index].key, old);
            changes.insert(&self.lines[index].key, &job);
            jobs.push(job);
        }
        if let Some(disk) = &self.disk {
            disk.note(changes);
        }
        for job in jobs {
            self.lines[index].line.push(job, durable, now);
        }
        self.pump(index, host);
        count
    }

    /// Dead letters are thrown away. Returns how many.
    pub(in crate::workers::queue) fn discard(&mut self, index: usize, id: &str) -> u64 {
        let (gone, kept): (Vec<Dead>, Vec<Dead>) =
            std::mem::take(&mut self.lines[index].line.dead).into_iter().partition(|dead| dead.job.head.is(id));
        self.lines[index].line.dead = kept.into();
        if let Some(disk) = &self.disk {
            let mut changes = Changes::default();
            gone.iter().for_each(|dead| changes.unbury(&self.lines[index].key, dead.job.seq));
            disk.note(changes);
        }
        gone.len() as u64
    }

    /// QUEUE-DB-13.
    pub(in crate::workers::queue) fn cancel(&mut self, index: usize, id: &str, host: &mut dyn Host) -> u64 {
        let Some(job) = self.lines[index].line.cancel(id) else { return 0 };
        if let Some(disk) = &self.disk {
            let mut changes = Changes::default();
            changes.remove(&self.lines[index].key, job.seq);
            disk.note(changes);
        }
        self.pump(index, host);
        1
    }
}
