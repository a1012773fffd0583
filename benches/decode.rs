//! Decoding a call: our envelope scanner beside typed lazy decoding with sonic-rs and a serde_json DOM.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use iii_shards::wire::envelope::{Envelope, Kind};
use serde::Deserialize;
use std::hint::black_box;

#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    invocation_id: Option<&'a str>,
    function_id: Option<&'a str>,
    #[serde(borrow)]
    data: Option<sonic_rs::LazyValue<'a>>,
}

fn call(payload_bytes: usize) -> String {
    let pad = "x".repeat(payload_bytes);
    format!(
        r#"{{"type":"invokefunction","invocation_id":"67e55044-10b1-426f-9247-bb680e5fe0c8","function_id":"orders::create","data":{{"customer":"c-1","items":[1,2,3],"note":"{pad}"}}}}"#
    )
}

fn decode(c: &mut Criterion) {
    for (name, text) in [("250B", call(80)), ("17KiB", call(17 << 10))] {
        let envelope = Envelope::parse(text.as_bytes()).expect("a valid call");
        let typed: Typed<'_> = sonic_rs::from_str(&text).expect("a valid call");
        let value: serde_json::Value = serde_json::from_str(&text).expect("a valid call");
        assert_eq!(envelope.kind, Kind::InvokeFunction);
        assert_eq!((typed.kind, typed.function_id), ("invokefunction", Some("orders::create")));
        assert_eq!(typed.invocation_id, value["invocation_id"].as_str());
        let data = envelope.members.data.expect("it has data");
        assert_eq!(data, typed.data.as_ref().expect("it has data").as_raw_str().as_bytes());
        assert_eq!(serde_json::from_slice::<serde_json::Value>(data).expect("valid"), value["data"]);

        let mut group = c.benchmark_group(format!("decode/{name}"));
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function("envelope", |b| {
            b.iter(|| {
                Envelope::parse(black_box(text.as_bytes())).map(|envelope| envelope.members.data.map(<[u8]>::len))
            });
        });
        group.bench_function("sonic_lazy", |b| {
            b.iter(|| sonic_rs::from_str::<Typed<'_>>(black_box(&text)).map(|typed| typed.kind.len()));
        });
        group.bench_function("serde_json_value", |b| {
            b.iter(|| serde_json::from_str::<serde_json::Value>(black_box(&text)));
        });
        group.finish();
    }
}

criterion_group!(benches, decode);
criterion_main!(benches);
