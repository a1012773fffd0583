//! The owner's table with 100 000 functions: one more registration and its removal.

use criterion::{Criterion, criterion_group, criterion_main};
use iii_shards::ids::{ConnectionId, ProviderId, ShardId};
use iii_shards::registry::FunctionHasher;
use iii_shards::registry::owner::{Claim, Key, OwnerTable};
use iii_shards::settings::DuplicateFunctions;
use std::hint::black_box;
use uuid::Uuid;

const FUNCTIONS: usize = 100_000;

fn registry(c: &mut Criterion) {
    let hasher = FunctionHasher::new(1, 1);
    let claim = Claim { worker: Uuid::nil(), process: 0, round: 1 };
    let provider =
        |slot| ProviderId { connection: ConnectionId { shard: ShardId(0), slot, generation: 0 }, registration: 0 };
    let ids: Vec<String> = (0..FUNCTIONS).map(|index| format!("service::function_{index}")).collect();
    let key = |id| Key { hash: hasher.hash(id), namespace: "default", id };
    let mut table = OwnerTable::default();
    for id in &ids {
        assert!(table.register(key(id), provider(0), claim, DuplicateFunctions::Balance).is_ok());
    }
    assert_eq!(table.len(), FUNCTIONS);
    let mut at = 0;
    c.bench_function("registry/second_provider_in_100k", |b| {
        b.iter(|| {
            at = (at + 7919) % ids.len();
            let key = key(black_box(&ids[at]));
            let added = table.register(key, provider(1), claim, DuplicateFunctions::Balance).is_ok();
            added && table.unregister(key, provider(1)).is_some()
        });
    });
    c.bench_function("registry/new_function_in_100k", |b| {
        b.iter(|| {
            let key = key(black_box("service::one_more"));
            let added = table.register(key, provider(1), claim, DuplicateFunctions::Balance).is_ok();
            added && table.unregister(key, provider(1)).is_some()
        });
    });
    assert_eq!(table.len(), FUNCTIONS);
}

criterion_group!(benches, registry);
criterion_main!(benches);
