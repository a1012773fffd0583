//! Routing a call: the probe of the route table and the choice among providers.

use criterion::{Criterion, criterion_group, criterion_main};
use iii_shards::ids::{ConnectionId, ProviderId, ShardId};
use iii_shards::registry::FunctionHasher;
use iii_shards::registry::routes::{Route, RouteTable};
use std::hint::black_box;

fn provider(slot: u32) -> ProviderId {
    ProviderId { connection: ConnectionId { shard: ShardId(0), slot, generation: 0 }, registration: 0 }
}

fn route(c: &mut Criterion) {
    let hasher = FunctionHasher::new(1, 4);
    let mut table = RouteTable::default();
    let ids: Vec<String> = (0..10_000).map(|index| format!("service::function_{index}")).collect();
    for id in &ids {
        table.entry(hasher.hash(id), "default", id);
    }
    assert!(table.find(hasher.hash(&ids[77]), "default", &ids[77]).is_some());
    assert!(table.find(hasher.hash("nobody"), "default", "nobody").is_none());
    let mut at = 0;
    c.bench_function("route/hash_and_find_in_10k", |b| {
        b.iter(|| {
            at = (at + 7919) % ids.len();
            let id = black_box(ids[at].as_str());
            table.find(hasher.hash(id), "default", id).is_some()
        });
    });

    for count in [1, 4, 16] {
        let route = Route::new(0, "default", "f");
        let providers: Vec<ProviderId> = (0..count).map(provider).collect();
        route.set_providers(&providers);
        assert_eq!(route.pick(true, None), Some(provider(0)));
        route.release(provider(0).connection);
        c.bench_function(&format!("route/pick_release_of_{count}"), |b| {
            b.iter(|| {
                let pick = route.pick(true, None);
                if let Some(pick) = pick {
                    route.release(pick.connection);
                }
                pick
            });
        });
    }
}

criterion_group!(benches, route);
criterion_main!(benches);
