//! Random values, performatives and messages, within what another implementation can hold too: keys of maps are there once, and arrays
//! are of what it knows in arrays, which texts beyond ASCII are not.

use amqp_protocol::message::{Body, Header, Message, Properties, Timestamp};
use amqp_protocol::performative::{
    Attach, Begin, DeliveryState, Detach, Disposition, Error, Flow, Open, Performative, ReceiverSettleMode,
    Role, SenderSettleMode, Transfer,
};
use amqp_protocol::terminus::{Node, Source, Target};
use amqp_protocol::{Map, Symbol, Text, Value};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn text() -> BoxedStrategy<Text> {
    prop_oneof!["[a-z$/é€-]{0,12}", "[a-z]{300}"].prop_map(Text::from).boxed()
}

fn symbol() -> BoxedStrategy<Symbol> {
    "[a-z:.-]{1,20}".prop_map(|name| Symbol::from(name.as_str())).boxed()
}

fn bytes() -> BoxedStrategy<Bytes> {
    vec(any::<u8>(), 0..300).prop_map(Bytes::from).boxed()
}

fn scalar() -> BoxedStrategy<Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<u8>().prop_map(Value::Ubyte),
        any::<u16>().prop_map(Value::Ushort),
        prop_oneof![0..300_u32, any::<u32>()].prop_map(Value::Uint),
        prop_oneof![0..300_u64, any::<u64>()].prop_map(Value::Ulong),
        any::<i8>().prop_map(Value::Byte),
        any::<i16>().prop_map(Value::Short),
        prop_oneof![-200..200_i32, any::<i32>()].prop_map(Value::Int),
        prop_oneof![-200..200_i64, any::<i64>()].prop_map(Value::Long),
        (-1e9_f32..1e9).prop_map(Value::Float),
        (-1e9_f64..1e9).prop_map(Value::Double),
        any::<[u8; 4]>().prop_map(Value::Decimal32),
        any::<[u8; 8]>().prop_map(Value::Decimal64),
        any::<[u8; 16]>().prop_map(Value::Decimal128),
        any::<char>().prop_map(Value::Char),
        any::<i64>().prop_map(Value::Timestamp),
        any::<[u8; 16]>().prop_map(Value::Uuid),
        bytes().prop_map(Value::Binary),
        text().prop_map(Value::String),
        symbol().prop_map(Value::Symbol),
    ]
    .boxed()
}

fn array() -> BoxedStrategy<Value> {
    prop_oneof![
        vec(any::<u32>().prop_map(Value::Uint), 1..5),
        vec(any::<i64>().prop_map(Value::Long), 1..5),
        vec(any::<[u8; 16]>().prop_map(Value::Uuid), 1..5),
        vec(symbol().prop_map(Value::Symbol), 1..5),
    ]
    .prop_map(Value::Array)
    .boxed()
}

fn map_of(value: BoxedStrategy<Value>) -> BoxedStrategy<Map> {
    let unique = |members: Vec<(Symbol, Value)>| {
        let mut map = Map::default();
        for (name, value) in members {
            if map.get(&name).is_none() {
                map.push(name, value);
            }
        }
        map
    };
    vec((symbol(), value), 0..5).prop_map(unique).boxed()
}

pub(super) fn value() -> BoxedStrategy<Value> {
    prop_oneof![4 => scalar(), 1 => array()]
        .prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..5).prop_map(Value::List),
                map_of(inner.clone()).prop_map(Value::Map),
                (any::<u64>(), inner)
                    .prop_map(|(code, inner)| { Value::Described(Box::new((Value::Ulong(code), inner))) }),
            ]
        })
        .boxed()
}

fn map() -> BoxedStrategy<Map> {
    map_of(scalar()).boxed()
}

fn symbols() -> BoxedStrategy<Vec<Symbol>> {
    vec(symbol(), 0..4).boxed()
}

fn error() -> BoxedStrategy<Error> {
    let condition =
        prop_oneof![Just("amqp:not-found"), Just("amqp:link:stolen"), Just("com.microsoft:timeout")];
    (condition.prop_map(Symbol::from_static), option::of(text()), map())
        .prop_map(|(condition, description, info)| Error { condition, description, info })
        .boxed()
}

fn outcome() -> BoxedStrategy<DeliveryState> {
    prop_oneof![
        Just(DeliveryState::Accepted),
        Just(DeliveryState::Released),
        option::of(error()).prop_map(DeliveryState::Rejected),
        (any::<bool>(), any::<bool>(), map()).prop_map(
            |(delivery_failed, undeliverable_here, message_annotations)| {
                DeliveryState::Modified { delivery_failed, undeliverable_here, message_annotations }
            }
        ),
    ]
    .boxed()
}

fn state() -> BoxedStrategy<DeliveryState> {
    prop_oneof![
        4 => outcome(),
        1 => (any::<u32>(), any::<u64>()).prop_map(|(section_number, section_offset)| {
            DeliveryState::Received { section_number, section_offset }
        }),
    ]
    .boxed()
}

fn role() -> BoxedStrategy<Role> {
    prop_oneof![Just(Role::Sender), Just(Role::Receiver)].boxed()
}

fn sender_mode() -> BoxedStrategy<SenderSettleMode> {
    use SenderSettleMode::{Mixed, Settled, Unsettled};
    prop_oneof![Just(Unsettled), Just(Settled), Just(Mixed)].boxed()
}

fn receiver_mode() -> BoxedStrategy<ReceiverSettleMode> {
    prop_oneof![Just(ReceiverSettleMode::First), Just(ReceiverSettleMode::Second)].boxed()
}

fn expiry() -> BoxedStrategy<Option<Symbol>> {
    option::of(prop_oneof![Just("link-detach"), Just("never")].prop_map(Symbol::from_static)).boxed()
}

fn source() -> BoxedStrategy<Source> {
    let node = (option::of(text()), 0..3_u32, expiry(), any::<u32>(), any::<bool>(), map());
    let rest = (option::of(Just(Symbol::from_static("move"))), option::of(outcome()), symbols(), symbols());
    (node, rest)
        .prop_map(|(node, rest)| {
            let (address, durable, expiry_policy, timeout, dynamic, dynamic_node_properties) = node;
            let (distribution_mode, default_outcome, outcomes, capabilities) = rest;
            Source {
                address,
                durable,
                expiry_policy,
                timeout,
                dynamic,
                dynamic_node_properties,
                distribution_mode,
                filter: Map::default(),
                default_outcome,
                outcomes,
                capabilities,
            }
        })
        .boxed()
}

fn target() -> BoxedStrategy<Target> {
    (option::of(text()), 0..3_u32, expiry(), any::<u32>(), any::<bool>(), map(), symbols())
        .prop_map(
            |(address, durable, expiry_policy, timeout, dynamic, dynamic_node_properties, capabilities)| {
                Target::Node(Node {
                    address,
                    durable,
                    expiry_policy,
                    timeout,
                    dynamic,
                    dynamic_node_properties,
                    capabilities,
                })
            },
        )
        .boxed()
}

fn attach() -> BoxedStrategy<Attach> {
    let ends = (option::of(source()), option::of(target()));
    let modes = (role(), sender_mode(), receiver_mode());
    let rest = (
        text(),
        any::<u32>(),
        any::<bool>(),
        any::<u32>(),
        option::of(any::<u64>()),
        symbols(),
        symbols(),
        map(),
    );
    (ends, modes, rest)
        .prop_map(|(ends, modes, rest)| {
            let (source, target) = ends;
            let (role, snd_settle_mode, rcv_settle_mode) = modes;
            let (name, handle, incomplete_unsettled, count, max_message_size, offered, desired, properties) =
                rest;
            Attach {
                name,
                handle,
                role,
                snd_settle_mode,
                rcv_settle_mode,
                source,
                target,
                unsettled: None,
                incomplete_unsettled,
                initial_delivery_count: (role == Role::Sender).then_some(count),
                max_message_size,
                offered_capabilities: offered,
                desired_capabilities: desired,
                properties,
            }
        })
        .boxed()
}

fn flow() -> BoxedStrategy<Flow> {
    let session = (option::of(any::<u32>()), any::<u32>(), any::<u32>(), any::<u32>());
    let number = || option::of(any::<u32>());
    let link = (number(), number(), number(), number(), any::<bool>(), any::<bool>(), map());
    (session, link)
        .prop_map(|(session, link)| {
            let (next_incoming_id, incoming_window, next_outgoing_id, outgoing_window) = session;
            let (handle, delivery_count, link_credit, available, drain, echo, properties) = link;
            Flow {
                next_incoming_id,
                incoming_window,
                next_outgoing_id,
                outgoing_window,
                handle,
                delivery_count,
                link_credit,
                available,
                drain,
                echo,
                properties,
            }
        })
        .boxed()
}

fn transfer() -> BoxedStrategy<Transfer> {
    let what = (
        any::<u32>(),
        option::of(any::<u32>()),
        option::of(vec(any::<u8>(), 0..32)),
        option::of(any::<u32>()),
    );
    let how = (option::of(any::<bool>()), any::<bool>(), option::of(receiver_mode()), option::of(state()));
    (what, how, any::<[bool; 3]>())
        .prop_map(|(what, how, [resume, aborted, batchable])| {
            let (handle, delivery_id, delivery_tag, message_format) = what;
            let (settled, more, rcv_settle_mode, state) = how;
            let delivery_tag = delivery_tag.map(Bytes::from);
            Transfer {
                handle,
                delivery_id,
                delivery_tag,
                message_format,
                settled,
                more,
                rcv_settle_mode,
                state,
                resume,
                aborted,
                batchable,
            }
        })
        .boxed()
}

pub(super) fn performative() -> BoxedStrategy<Performative> {
    let open =
        (text(), option::of(text()), any::<u32>(), any::<u16>(), option::of(any::<u32>()), symbols(), map());
    let open =
        open.prop_map(|(container_id, hostname, max_frame_size, channel_max, idle, desired, properties)| {
            Performative::Open(Open {
                container_id,
                hostname,
                max_frame_size,
                channel_max,
                idle_time_out_ms: idle,
                offered_capabilities: Vec::new(),
                desired_capabilities: desired,
                properties,
            })
        });
    let begin = (option::of(any::<u16>()), any::<[u32; 4]>(), symbols(), map());
    let begin = begin.prop_map(|(remote_channel, numbers, offered_capabilities, properties)| {
        let [next_outgoing_id, incoming_window, outgoing_window, handle_max] = numbers;
        Performative::Begin(Begin {
            remote_channel,
            next_outgoing_id,
            incoming_window,
            outgoing_window,
            handle_max,
            offered_capabilities,
            desired_capabilities: Vec::new(),
            properties,
        })
    });
    let disposition =
        (role(), any::<u32>(), option::of(any::<u32>()), any::<bool>(), option::of(state()), any::<bool>());
    let disposition = disposition.prop_map(|(role, first, last, settled, state, batchable)| {
        Performative::Disposition(Disposition { role, first, last, settled, state, batchable })
    });
    let detach = (any::<u32>(), any::<bool>(), option::of(error()));
    let detach =
        detach.prop_map(|(handle, closed, error)| Performative::Detach(Detach { handle, closed, error }));
    prop_oneof![
        open,
        begin,
        attach().prop_map(|attach| Performative::Attach(Box::new(attach))),
        flow().prop_map(Performative::Flow),
        transfer().prop_map(Performative::Transfer),
        disposition,
        detach,
        option::of(error()).prop_map(Performative::End),
        option::of(error()).prop_map(Performative::Close),
    ]
    .boxed()
}

fn id() -> BoxedStrategy<Value> {
    prop_oneof![
        any::<u64>().prop_map(Value::Ulong),
        any::<[u8; 16]>().prop_map(Value::Uuid),
        bytes().prop_map(Value::Binary),
        text().prop_map(Value::String),
    ]
    .boxed()
}

pub(super) fn properties() -> BoxedStrategy<Properties> {
    let texts =
        (option::of(text()), option::of(text()), option::of(text()), option::of(text()), option::of(text()));
    let ids = (option::of(id()), option::of(id()), option::of(bytes()));
    let types = (option::of(symbol()), option::of(symbol()));
    let times = (option::of(any::<i64>()), option::of(any::<i64>()), option::of(any::<u32>()));
    (texts, ids, types, times)
        .prop_map(|(texts, ids, types, times)| {
            let (to, subject, reply_to, group_id, reply_to_group_id) = texts;
            let (message_id, correlation_id, user_id) = ids;
            let (content_type, content_encoding) = types;
            let (expiry, creation, group_sequence) = times;
            Properties {
                message_id,
                user_id,
                to,
                subject,
                reply_to,
                correlation_id,
                content_type,
                content_encoding,
                absolute_expiry_time: expiry.map(Timestamp),
                creation_time: creation.map(Timestamp),
                group_id,
                group_sequence,
                reply_to_group_id,
            }
        })
        .boxed()
}

pub(super) fn message() -> BoxedStrategy<Message> {
    let header =
        (any::<bool>(), option::of(any::<u8>()), option::of(any::<u32>()), any::<bool>(), any::<u32>());
    let header = header.prop_map(|(durable, priority, ttl_ms, first_acquirer, delivery_count)| Header {
        durable,
        priority,
        ttl_ms,
        first_acquirer,
        delivery_count,
    });
    let body = prop_oneof![
        Just(Body::Empty),
        vec(bytes(), 1..4).prop_map(Body::Data),
        vec(vec(value(), 0..3), 1..3).prop_map(Body::Sequence),
        value().prop_map(Body::Value),
    ];
    let maps = (map(), map(), map(), map());
    (option::of(header), option::of(properties()), maps, body)
        .prop_map(|(header, properties, maps, body)| {
            let (delivery_annotations, message_annotations, application_properties, footer) = maps;
            Message {
                header,
                delivery_annotations,
                message_annotations,
                properties,
                application_properties,
                body,
                footer,
            }
        })
        .boxed()
}

/// In the order of their descriptors, with nothing in them that need not be.
pub(super) fn one_of_each() -> Vec<Performative> {
    let attach = Attach {
        name: "l".into(),
        handle: 0,
        role: Role::Sender,
        snd_settle_mode: SenderSettleMode::default(),
        rcv_settle_mode: ReceiverSettleMode::default(),
        source: None,
        target: None,
        unsettled: None,
        incomplete_unsettled: false,
        initial_delivery_count: Some(0),
        max_message_size: None,
        offered_capabilities: Vec::new(),
        desired_capabilities: Vec::new(),
        properties: Map::default(),
    };
    vec![
        Performative::Open(Open::named("c".into())),
        Performative::Begin(Begin {
            remote_channel: None,
            next_outgoing_id: 0,
            incoming_window: 1,
            outgoing_window: 1,
            handle_max: u32::MAX,
            offered_capabilities: Vec::new(),
            desired_capabilities: Vec::new(),
            properties: Map::default(),
        }),
        Performative::Attach(Box::new(attach)),
        Performative::Flow(Flow::default()),
        Performative::Transfer(Transfer::default()),
        Performative::Disposition(Disposition {
            role: Role::Receiver,
            first: 0,
            last: None,
            settled: false,
            state: None,
            batchable: false,
        }),
        Performative::Detach(Detach { handle: 0, closed: false, error: None }),
        Performative::End(None),
        Performative::Close(None),
    ]
}
