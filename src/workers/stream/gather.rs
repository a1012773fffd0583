//! `stream::list_groups` and `stream::list_all`: every shard is asked which groups it has.

use super::home::is_missing;
use super::letter::{Letter, Outgoing};
use super::name::GroupName;
use super::{PROVIDER_TIMEOUT_MS, answers};
use crate::workers::payload::{members, string};
use iii_shards::builtin::{Call, CallId, Host, Outcome, OutgoingCall, Token};
use iii_shards::ids::ShardId;
use iii_shards::registry::DEFAULT_NAMESPACE;
use iii_shards::wire::encode::{Value, write_object};
use iii_shards::wire::json::write_string;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// The questions under way.
#[derive(Default)]
pub struct Gathering {
    /// `list_groups` calls whose stream may have a provider.
    asked: HashMap<Token, (CallId, Arc<str>)>,
    questions: HashMap<u64, Question>,
    next: u64,
}

struct Question {
    call: CallId,
    /// The groups of one stream are wanted, not all streams.
    one_stream: bool,
    shards_left: usize,
    groups: BTreeSet<Arc<GroupName>>,
}

impl Gathering {
    /// `stream::list_groups`
    pub fn list_groups(&mut self, call: &Call, host: &mut dyn Host) {
        let read = members(&call.data, ["stream_name"], "struct StreamListGroupsInput");
        let stream = match read.and_then(|[stream]| string(stream, "stream_name").map(|name| Arc::from(&*name))) {
            Ok(stream) => stream,
            Err(detail) => return host.answer(call.id, Err(&answers::unfit(&call.function_id, &detail))),
        };
        let mut payload = Vec::new();
        write_object(&mut payload, &[("stream_name", Value::Text(&stream))]);
        let token = host.call(&OutgoingCall {
            timeout_ms: Some(PROVIDER_TIMEOUT_MS),
            ..OutgoingCall::new(DEFAULT_NAMESPACE, &provider_id(&stream), &payload)
        });
        self.asked.insert(token, (call.id, stream));
    }

    /// `stream::list_all`
    pub fn list_all(&mut self, call: &Call, host: &dyn Host, out: &mut Outgoing) {
        self.ask(call.id, None, host, out);
    }

    /// Takes a provider's answer; gives it back if the call was not made here.
    pub fn answer(
        &mut self,
        token: Token,
        outcome: Outcome,
        host: &mut dyn Host,
        out: &mut Outgoing,
    ) -> Result<(), Outcome> {
        let Some((call, stream)) = self.asked.remove(&token) else { return Err(outcome) };
        if is_missing(&outcome, &provider_id(&stream)) {
            self.ask(call, Some(stream), host, out);
        } else {
            host.answer(call, outcome.as_deref());
        }
        Ok(())
    }

    fn ask(&mut self, call: CallId, stream: Option<Arc<str>>, host: &dyn Host, out: &mut Outgoing) {
        self.next += 1;
        let (question, shards_left) = (self.next, host.shards());
        let one_stream = stream.is_some();
        self.questions.insert(question, Question { call, one_stream, shards_left, groups: BTreeSet::new() });
        for shard in 0..shards_left {
            let stream = stream.clone();
            out.push((ShardId(shard as u16), Letter::WhichGroups { from: host.shard(), question, stream }));
        }
    }

    /// The groups of one shard.
    pub fn groups(&mut self, question: u64, groups: Vec<Arc<GroupName>>, host: &mut dyn Host) {
        let Some(asked) = self.questions.get_mut(&question) else { return };
        asked.groups.extend(groups);
        asked.shards_left -= 1;
        if asked.shards_left == 0
            && let Some(done) = self.questions.remove(&question)
        {
            let answer = if done.one_stream { group_ids(&done.groups) } else { streams(&done.groups) };
            host.answer(done.call, Ok(&answer));
        }
    }
}

fn provider_id(stream: &str) -> String {
    format!("stream::list_groups({stream})")
}

/// `["g","h"]`
fn group_ids(groups: &BTreeSet<Arc<GroupName>>) -> Vec<u8> {
    texts(groups.iter().map(|name| &*name.group))
}

/// `{"stream":[{"id":"s","groups":["g"]}],"count":1}`
fn streams(groups: &BTreeSet<Arc<GroupName>>) -> Vec<u8> {
    let mut streams: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in groups {
        streams.entry(&name.stream).or_default().push(&name.group);
    }
    let mut list = vec![b'['];
    for (id, groups) in &streams {
        if list.len() > 1 {
            list.push(b',');
        }
        let groups = texts(groups.iter().copied());
        write_object(&mut list, &[("id", Value::Text(id)), ("groups", Value::Raw(&groups))]);
    }
    list.push(b']');
    let mut out = Vec::new();
    write_object(&mut out, &[("stream", Value::Raw(&list)), ("count", Value::Number(streams.len() as u64))]);
    out
}

fn texts<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let mut out = vec![b'['];
    for text in texts {
        if out.len() > 1 {
            out.push(b',');
        }
        write_string(&mut out, text);
    }
    out.push(b']');
    out
}
