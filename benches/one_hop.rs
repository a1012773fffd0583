//! A call and its answer through the state machines of two shards: everything but sockets, rings and the kernel.

use criterion::{Criterion, criterion_group, criterion_main};
use iii_shards::ids::ShardId;
use iii_shards::registry::FunctionHasher;
use iii_shards::settings::{ListenerSettings, Settings};
use iii_shards::shard::{Now, Shard};
use iii_shards::sim::client::{upgrade_request, write_frame};
use std::net::Ipv4Addr;
use std::sync::Arc;

struct Machine {
    shards: Vec<Shard>,
}

impl Machine {
    fn new(count: usize) -> Machine {
        let settings = Settings { shards: count, listeners: vec![ListenerSettings::default()], ..Settings::default() };
        let settings = Arc::new(settings);
        let hasher = FunctionHasher::new(3, count);
        let mut shards: Vec<Shard> = (0..count)
            .map(|index| Shard::new(ShardId(index as u16), settings.clone(), hasher.clone(), [index as u8; 32]))
            .collect();
        for shard in &mut shards {
            shard.set_time(Now { ms: 1, unix_ms: 1 });
        }
        Machine { shards }
    }

    fn connect(&mut self, shard: usize) -> u32 {
        let slot = self.shards[shard].handle_accepted(0, (Ipv4Addr::LOCALHOST, 1).into());
        self.shards[shard].handle_bytes(slot, &mut upgrade_request("/"));
        self.say(shard, slot, r#"{"type":"registerworker"}"#);
        slot
    }

    fn say(&mut self, shard: usize, slot: u32, text: &str) {
        let mut bytes = frame(text);
        self.shards[shard].handle_bytes(slot, &mut bytes);
    }

    /// Carries batches between the shards until there are none.
    fn cross(&mut self) {
        let count = self.shards.len();
        loop {
            let mut idle = true;
            for from in 0..count {
                for to in (0..count).filter(|to| *to != from) {
                    let mut batch = std::mem::take(self.shards[from].outgoing(ShardId(to as u16)));
                    if !batch.is_empty() {
                        idle = false;
                        self.shards[to].handle_batch(ShardId(from as u16), &mut batch);
                    }
                    // The buffers serve the next batch, as they do in a ring that returns them.
                    if self.shards[from].outgoing(ShardId(to as u16)).is_empty() {
                        *self.shards[from].outgoing(ShardId(to as u16)) = batch;
                    }
                }
                self.shards[from].outgoing(ShardId(count as u16)).clear();
            }
            if idle {
                return;
            }
        }
    }

    /// Sends what waits for a slot; returns its bytes.
    fn flush(&mut self, shard: usize, slot: u32) -> usize {
        let Some(buffer) = self.shards[shard].take_output(slot) else { return 0 };
        let bytes = buffer.len();
        self.shards[shard].handle_sent(slot, buffer);
        while self.shards[shard].poll_dirty().is_some() {}
        bytes
    }
}

fn frame(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_frame(&mut bytes, 0x81, [0x11, 0x22, 0x33, 0x44], text.as_bytes());
    bytes
}

fn one_hop(c: &mut Criterion) {
    let id = "67e55044-10b1-426f-9247-bb680e5fe0c8";
    let call = frame(&format!(
        r#"{{"type":"invokefunction","invocation_id":"{id}","function_id":"orders::create","data":{{"note":"{}"}}}}"#,
        "x".repeat(100)
    ));
    let answer = frame(&format!(
        r#"{{"type":"invocationresult","invocation_id":"{id}","function_id":"orders::create","result":{{"note":"{}"}}}}"#,
        "x".repeat(100)
    ));
    for shards in [1, 2] {
        let mut machine = Machine::new(shards);
        let caller = machine.connect(0);
        let provider = machine.connect(shards - 1);
        machine.say(shards - 1, provider, r#"{"type":"registerfunction","id":"orders::create"}"#);
        machine.cross();
        machine.flush(0, caller);
        machine.flush(shards - 1, provider);
        let mut bytes = Vec::new();
        let mut turn = |machine: &mut Machine| {
            bytes.clear();
            bytes.extend_from_slice(&call);
            machine.shards[0].handle_bytes(caller, &mut bytes);
            machine.cross();
            let asked = machine.flush(shards - 1, provider);
            bytes.clear();
            bytes.extend_from_slice(&answer);
            machine.shards[shards - 1].handle_bytes(provider, &mut bytes);
            machine.cross();
            (asked, machine.flush(0, caller))
        };
        let (asked, answered) = turn(&mut machine);
        assert!(asked > 200 && answered > 200, "call {asked} bytes, answer {answered} bytes");
        let before = machine.shards[0].counters().results;
        turn(&mut machine);
        assert_eq!(machine.shards[0].counters().results, before + 1);
        c.bench_function(&format!("one_hop/{shards}_shards"), |b| b.iter(|| turn(&mut machine)));
    }
}

criterion_group!(benches, one_hop);
criterion_main!(benches);
