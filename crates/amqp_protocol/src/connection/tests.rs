//! The other side of the wire says something, and reads what it is answered.

use base::caps;
use bytes::{Bytes, BytesMut};

use super::*;
use crate::performative::{Disposition, Flow, ReceiverSettleMode, SenderSettleMode, Transfer};
use crate::terminus::Node;

const BOUNDS: Bounds =
    Bounds { frame_bytes_max: 4096, message_bytes_max: 10_000, sessions_max: 4, links_max: 8 };

/// A connection and who is at its other end.
struct Wire {
    connection: Connection,
    input: BytesMut,
}

impl Wire {
    fn new() -> Self {
        let mechanisms = vec![Symbol::from_static("ANONYMOUS"), Symbol::from_static("PLAIN")];
        Self { connection: Connection::new(BOUNDS, mechanisms), input: BytesMut::new() }
    }

    /// With a session on channel 3.
    fn opened() -> Self {
        let mut wire = Self::new();
        wire.input.extend_from_slice(&Protocol::Amqp.header());
        wire.says(0, &Performative::Open(Open { max_frame_size: 1024, ..Open::named("client".into()) }));
        assert!(matches!(wire.next(), Some(Event::Opened(open)) if open.container_id == *"client"));
        wire.connection.open(Open::named("server".into()));
        wire.says(3, &Performative::Begin(begin(100)));
        assert_eq!(wire.next(), None);
        let mut header = wire.connection.output().split_to(8);
        assert_eq!(Protocol::take(&mut header), Ok(Some(Protocol::Amqp)));
        let heard = wire.hears();
        assert!(matches!(heard[0], (0, Performative::Open(_), _)));
        let (3, Performative::Begin(answer), _) = &heard[1] else { panic!("{heard:?}") };
        assert_eq!(answer.remote_channel, Some(3));
        wire
    }

    /// With a link on handle 5 by which the other side sends.
    fn receiving(credit: u32) -> (Self, LinkKey) {
        let mut wire = Self::opened();
        let link = wire.attaches(5, Role::Sender);
        wire.connection.grant(link, credit);
        wire.hears();
        (wire, link)
    }

    /// With a link on handle 6 by which we send.
    fn sending(credit: u32) -> (Self, LinkKey) {
        let mut wire = Self::opened();
        let link = wire.attaches(6, Role::Receiver);
        wire.says(3, &Performative::Flow(flow(6, 0, credit)));
        assert_eq!(wire.next(), Some(Event::Credit { link, drain: false }));
        wire.hears();
        (wire, link)
    }

    fn attaches(&mut self, handle: u32, role: Role) -> LinkKey {
        let attach = attach(handle, role);
        self.says(3, &Performative::Attach(Box::new(attach.clone())));
        let link = LinkKey { channel: 3, handle };
        assert_eq!(self.next(), Some(Event::Attached { link, attach: Box::new(attach.clone()) }));
        let accepted =
            Accepted { source: attach.source.clone(), target: attach.target.clone(), ..Accepted::default() };
        self.connection.accept(link, &attach, accepted);
        link
    }

    fn says(&mut self, channel: u16, performative: &Performative) {
        self.sends(channel, performative, b"");
    }

    fn sends(&mut self, channel: u16, performative: &Performative, payload: &[u8]) {
        frame::put(&mut self.input, Protocol::Amqp, channel, performative, payload);
    }

    fn next(&mut self) -> Option<Event> {
        self.connection.next(&mut self.input).expect("it goes on")
    }

    fn fails(&mut self) -> Fault {
        loop {
            match self.connection.next(&mut self.input) {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it goes on"),
                Err(fault) => return fault,
            }
        }
    }

    fn hears(&mut self) -> Vec<(u16, Performative, Bytes)> {
        let output = self.connection.output();
        let mut heard = Vec::new();
        while let Some(frame) = Frame::take(output, Protocol::Amqp, 4096).unwrap() {
            let channel = frame.channel;
            let (performative, payload) = frame.performative().unwrap();
            heard.push((channel, performative, payload));
        }
        assert!(output.is_empty(), "a frame is not whole");
        heard
    }
}

fn begin(incoming_window: u32) -> Begin {
    Begin {
        remote_channel: None,
        next_outgoing_id: u32::MAX,
        incoming_window,
        outgoing_window: 1000,
        handle_max: 1000,
        offered_capabilities: Vec::new(),
        desired_capabilities: Vec::new(),
        properties: Map::default(),
    }
}

fn attach(handle: u32, role: Role) -> Attach {
    let node = |address: &str| Node { address: Some(address.into()), ..Node::default() };
    Attach {
        name: format!("link-{handle}").as_str().into(),
        handle,
        role,
        snd_settle_mode: SenderSettleMode::Unsettled,
        rcv_settle_mode: ReceiverSettleMode::Second,
        source: Some(Source { address: Some("from".into()), ..Source::default() }),
        target: Some(Target::Node(node("to"))),
        unsettled: None,
        incomplete_unsettled: false,
        initial_delivery_count: (role == Role::Sender).then_some(u32::MAX),
        max_message_size: None,
        offered_capabilities: Vec::new(),
        desired_capabilities: Vec::new(),
        properties: Map::default(),
    }
}

fn flow(handle: u32, delivery_count: u32, credit: u32) -> Flow {
    Flow {
        next_incoming_id: Some(0),
        incoming_window: 100,
        outgoing_window: 1000,
        handle: Some(handle),
        delivery_count: Some(delivery_count),
        link_credit: Some(credit),
        ..Flow::default()
    }
}

fn transfer(id: u32, more: bool) -> Performative {
    Performative::Transfer(Transfer {
        handle: 5,
        delivery_id: Some(id),
        delivery_tag: Some(Bytes::from(id.to_be_bytes().to_vec())),
        more,
        ..Transfer::default()
    })
}

fn transfers(heard: &[(u16, Performative, Bytes)]) -> Vec<(Transfer, Bytes)> {
    let transfer = |(_, performative, payload): &(u16, Performative, Bytes)| match performative {
        Performative::Transfer(transfer) => Some((transfer.clone(), payload.clone())),
        _ => None,
    };
    heard.iter().filter_map(transfer).collect()
}

fn disposition(heard: &(u16, Performative, Bytes)) -> (Role, u32, Option<u32>, bool, Option<DeliveryState>) {
    let (_, Performative::Disposition(said), _) = heard else { panic!("{heard:?}") };
    (said.role, said.first, said.last, said.settled, said.state.clone())
}

#[test]
fn who_comes_with_sasl_is_let_in_by_it_and_then_opens() {
    let mut wire = Wire::new();
    wire.input.extend_from_slice(&Protocol::Sasl.header());
    let init = Sasl::Init {
        mechanism: "PLAIN".into(),
        response: Some(Bytes::from_static(b"\0a\0b")),
        hostname: None,
    };
    frame::put(&mut wire.input, Protocol::Sasl, 0, &init, &[]);
    let response = Bytes::from_static(b"\0a\0b");
    assert_eq!(wire.next(), Some(Event::Authenticate { mechanism: "PLAIN".into(), response }));
    wire.input.extend_from_slice(&Protocol::Amqp.header());
    assert_eq!(wire.next(), None, "nothing goes on before it is judged");
    wire.connection.authenticated(true);
    wire.says(0, &Performative::Open(Open::named("c".into())));
    assert!(matches!(wire.next(), Some(Event::Opened(_))));
    let output = wire.connection.output();
    assert_eq!(Protocol::take(output), Ok(Some(Protocol::Sasl)));
    let mut sasl = || Frame::take(output, Protocol::Sasl, 512).unwrap().unwrap().sasl().unwrap();
    assert_eq!(sasl(), Sasl::Mechanisms(vec!["ANONYMOUS".into(), "PLAIN".into()]));
    assert_eq!(sasl(), Sasl::Outcome(0));
    assert_eq!(Protocol::take(output), Ok(Some(Protocol::Amqp)));
}

#[test]
fn who_is_not_let_in_is_told_and_nothing_more_is_read() {
    let mut wire = Wire::new();
    wire.input.extend_from_slice(&Protocol::Sasl.header());
    frame::put(
        &mut wire.input,
        Protocol::Sasl,
        0,
        &Sasl::Init { mechanism: "PLAIN".into(), response: None, hostname: None },
        &[],
    );
    assert!(matches!(wire.next(), Some(Event::Authenticate { response, .. }) if response.is_empty()));
    wire.connection.authenticated(false);
    wire.input.extend_from_slice(&Protocol::Amqp.header());
    assert_eq!((wire.next(), wire.connection.is_closed()), (None, true));
}

#[test]
fn what_comes_byte_by_byte_is_what_comes_at_once() {
    let (mut wire, _) = Wire::receiving(9);
    let mut said = BytesMut::new();
    frame::put(&mut said, Protocol::Amqp, 3, &transfer(0, true), b"hel");
    frame::put(&mut said, Protocol::Amqp, 3, &transfer(0, false), b"lo");
    frame::put_empty(&mut said);
    frame::put(&mut said, Protocol::Amqp, 3, &transfer(1, false), b"again");
    frame::put(&mut said, Protocol::Amqp, 0, &Performative::Close(None), &[]);
    let mut events = Vec::new();
    for byte in said {
        wire.input.extend_from_slice(&[byte]);
        events.extend(wire.next());
    }
    let delivered = |event: &Event| match event {
        Event::Delivered { delivery, .. } => Some(delivery.message.clone()),
        _ => None,
    };
    let messages: Vec<Bytes> = events.iter().filter_map(delivered).collect();
    assert_eq!(messages, ["hello", "again"]);
    assert_eq!(events.last(), Some(&Event::Closed(None)));
    assert!(wire.hears().iter().any(|(_, said, _)| *said == Performative::Close(None)));
}

#[test]
fn a_delivery_beyond_its_credit_ends_its_link_and_no_other() {
    let (mut wire, link) = Wire::receiving(1);
    let other = wire.attaches(7, Role::Sender);
    wire.hears();
    wire.sends(3, &transfer(0, false), b"one");
    wire.sends(3, &transfer(1, false), b"two");
    assert!(matches!(wire.next(), Some(Event::Delivered { .. })));
    let Some(Event::Detached { link: ended, error: Some(error), .. }) = wire.next() else { panic!() };
    assert_eq!((ended, &*error.condition), (link, "amqp:link:transfer-limit-exceeded"));
    let heard = wire.hears();
    assert!(
        matches!(&heard[..], [(3, Performative::Detach(detach), _)] if detach.handle == 5 && detach.closed)
    );
    // What is still on its way is dropped, and its answer is not told.
    wire.sends(3, &transfer(2, false), b"three");
    wire.says(3, &Performative::Detach(Detach { handle: 5, closed: true, error: None }));
    assert_eq!(wire.next(), None);
    wire.connection.grant(other, 3);
    assert_eq!(wire.connection.granted(other), 3);
    // The handle is free again.
    wire.attaches(5, Role::Sender);
}

#[test]
fn a_message_that_is_too_large_ends_its_link() {
    let (mut wire, _) = Wire::receiving(5);
    for _ in 0..10 {
        wire.sends(3, &transfer(0, true), &[0; 1000]);
    }
    assert_eq!(wire.next(), None);
    wire.sends(3, &transfer(0, true), &[0; 1]);
    let Some(Event::Detached { error: Some(error), .. }) = wire.next() else { panic!() };
    assert_eq!(&*error.condition, "amqp:link:message-size-exceeded");
}

#[test]
fn a_message_that_is_aborted_was_never_sent() {
    let (mut wire, _) = Wire::receiving(5);
    wire.sends(3, &transfer(0, true), b"never");
    let aborted = Transfer { handle: 5, delivery_id: Some(0), aborted: true, ..Transfer::default() };
    wire.says(3, &Performative::Transfer(aborted));
    wire.sends(3, &transfer(1, false), b"said");
    let Some(Event::Delivered { delivery, .. }) = wire.next() else { panic!() };
    assert_eq!((delivery.id, &delivery.message[..]), (1, &b"said"[..]));
}

#[test]
fn accepted_deliveries_in_a_row_are_told_together_and_others_each() {
    let (mut wire, link) = Wire::receiving(9);
    for id in 0..6 {
        wire.sends(3, &transfer(u32::MAX.wrapping_add(id), false), b"x");
    }
    while wire.next().is_some() {}
    let id = |id: u32| u32::MAX.wrapping_add(id);
    for accepted in [0, 1, 2] {
        wire.connection.settle(link, id(accepted), DeliveryState::Accepted);
    }
    wire.connection.settle(link, id(3), DeliveryState::Released);
    wire.connection.settle(link, id(5), DeliveryState::Accepted);
    wire.connection.settle(link, id(5), DeliveryState::Accepted);
    let heard: Vec<_> = wire.hears().iter().map(disposition).collect();
    let accepted = |first, last| (Role::Receiver, first, Some(last), true, Some(DeliveryState::Accepted));
    let released = (Role::Receiver, id(3), Some(id(3)), true, Some(DeliveryState::Released));
    assert_eq!(heard, [accepted(id(0), id(2)), released, accepted(id(5), id(5))]);
}

#[test]
fn what_lies_between_accepted_deliveries_is_not_told_with_them() {
    let (mut wire, link) = Wire::receiving(9);
    for id in 0..3 {
        wire.sends(3, &transfer(id, false), b"x");
    }
    while wire.next().is_some() {}
    wire.connection.settle(link, 0, DeliveryState::Accepted);
    wire.connection.settle(link, 2, DeliveryState::Accepted);
    let heard: Vec<_> =
        wire.hears().iter().map(disposition).map(|(_, first, last, ..)| (first, last)).collect();
    assert_eq!(heard, [(0, Some(0)), (2, Some(2))]);
}

#[test]
fn of_a_link_that_has_ended_nothing_is_settled() {
    let (mut wire, link) = Wire::receiving(9);
    wire.sends(3, &transfer(0, false), b"x");
    assert!(matches!(wire.next(), Some(Event::Delivered { .. })));
    wire.connection.detach(link, None);
    wire.hears();
    wire.connection.settle(link, 0, DeliveryState::Accepted);
    assert_eq!(wire.hears(), []);
}

#[test]
fn what_is_settled_already_gets_no_answer() {
    let (mut wire, link) = Wire::receiving(9);
    let Performative::Transfer(sent) = transfer(0, false) else { panic!() };
    wire.sends(3, &Performative::Transfer(Transfer { settled: Some(true), ..sent }), b"x");
    assert!(matches!(wire.next(), Some(Event::Delivered { delivery, .. }) if delivery.settled));
    wire.connection.settle(link, 0, DeliveryState::Accepted);
    assert_eq!(wire.hears(), []);
}

#[test]
fn a_link_that_is_refused_is_answered_without_ends_and_detached() {
    let mut wire = Wire::opened();
    let attach = attach(5, Role::Sender);
    wire.says(3, &Performative::Attach(Box::new(attach.clone())));
    let link = LinkKey { channel: 3, handle: 5 };
    assert!(matches!(wire.next(), Some(Event::Attached { .. })));
    let error = Error::new("amqp:not-found", "It is not there.");
    wire.connection.refuse(link, &attach, error.clone());
    let heard = wire.hears();
    let [(3, Performative::Attach(answer), _), (3, Performative::Detach(detach), _)] = &heard[..] else {
        panic!("{heard:?}")
    };
    assert_eq!((&answer.source, &answer.target, answer.role), (&None, &None, Role::Receiver));
    assert_eq!((detach.closed, detach.error.as_ref()), (true, Some(&error)));
    // Who sends into it all the same is not listened to.
    wire.sends(3, &transfer(0, false), b"x");
    assert_eq!(wire.next(), None);
}

#[test]
fn a_sender_is_answered_with_where_it_counts_from_and_how_large_a_message_may_be() {
    let mut wire = Wire::opened();
    wire.attaches(6, Role::Receiver);
    let heard = wire.hears();
    let (3, Performative::Attach(answer), _) = &heard[0] else { panic!("{heard:?}") };
    assert_eq!((answer.role, answer.initial_delivery_count), (Role::Sender, Some(0)));
    assert_eq!(answer.max_message_size, Some(10_000));
    assert_eq!(
        (answer.snd_settle_mode, answer.rcv_settle_mode),
        (SenderSettleMode::Unsettled, ReceiverSettleMode::Second)
    );
}

#[test]
fn nothing_is_sent_without_credit() {
    let (mut wire, link) = Wire::sending(2);
    let send = |wire: &mut Wire| wire.connection.send(link, Bytes::new(), 0, true, Bytes::from_static(b"m"));
    assert_eq!((send(&mut wire), send(&mut wire), send(&mut wire)), (Some(0), Some(1), None));
    assert_eq!(transfers(&wire.hears()).len(), 2);
    // A credit of two more, said by a receiver that has not seen the second yet: there is one.
    wire.says(3, &Performative::Flow(flow(6, 1, 2)));
    assert!(matches!(wire.next(), Some(Event::Credit { .. })));
    assert_eq!(wire.connection.credit(link), 1);
}

#[test]
fn a_message_larger_than_a_frame_goes_in_several() {
    let (mut wire, link) = Wire::sending(1);
    let message: Bytes = (0..5000).map(|index| u8::try_from(index % 251).unwrap()).collect();
    let tag = Bytes::from_static(b"tag");
    assert_eq!(wire.connection.send(link, tag.clone(), 7, false, message.clone()), Some(0));
    let heard = wire.hears();
    let parts = transfers(&heard);
    assert!(parts.len() > 4, "{}", parts.len());
    let (first, last) = (&parts[0].0, &parts.last().unwrap().0);
    assert_eq!(
        (first.delivery_id, &first.delivery_tag, first.message_format),
        (Some(0), &Some(tag), Some(7))
    );
    assert!(first.more && !last.more);
    let whole: Vec<u8> = parts.iter().flat_map(|(_, payload)| payload.to_vec()).collect();
    assert_eq!(whole, message);
    for (_, performative, payload) in heard {
        let mut frame = BytesMut::new();
        assert!(frame::put(&mut frame, Protocol::Amqp, 3, &performative, &payload) <= 1024);
    }
}

#[test]
fn what_has_no_room_in_the_window_goes_when_there_is() {
    let (mut wire, link) = Wire::sending(5);
    let narrow = Flow { incoming_window: 2, ..flow(6, 0, 5) };
    wire.says(3, &Performative::Flow(narrow));
    wire.next();
    let message = Bytes::from(vec![1; 5000]);
    assert!(wire.connection.send(link, Bytes::new(), 0, false, message).is_some());
    assert_eq!(transfers(&wire.hears()).len(), 2);
    assert_eq!(wire.connection.credit(link), 0, "one waits already");
    let wider = Flow { next_incoming_id: Some(2), incoming_window: 100, ..flow(6, 0, 5) };
    wire.says(3, &Performative::Flow(wider));
    wire.next();
    let rest = transfers(&wire.hears());
    assert!(rest.last().is_some_and(|(transfer, _)| !transfer.more));
    assert_eq!(wire.connection.credit(link), 4);
}

#[test]
fn what_is_on_its_way_counts_against_the_window() {
    let (mut wire, link) = Wire::sending(9);
    let send = |wire: &mut Wire| wire.connection.send(link, Bytes::new(), 0, true, Bytes::new());
    assert!(send(&mut wire).is_some() && send(&mut wire).is_some());
    // Said before the two had come.
    wire.says(3, &Performative::Flow(Flow { incoming_window: 3, ..flow(6, 0, 9) }));
    wire.next();
    wire.hears();
    assert!(send(&mut wire).is_some() && send(&mut wire).is_some());
    assert_eq!(transfers(&wire.hears()).len(), 1);
}

#[test]
fn who_drains_gets_what_there_is_and_a_credit_of_none() {
    let (mut wire, link) = Wire::sending(10);
    wire.connection.send(link, Bytes::new(), 0, true, Bytes::new()).unwrap();
    wire.hears();
    wire.says(3, &Performative::Flow(Flow { drain: true, ..flow(6, 1, 9) }));
    assert_eq!(wire.next(), Some(Event::Credit { link, drain: true }));
    wire.connection.send(link, Bytes::new(), 0, true, Bytes::new()).unwrap();
    wire.connection.drained(link);
    let heard = wire.hears();
    let [(_, Performative::Transfer(_), _), (_, Performative::Flow(flow), _)] = &heard[..] else {
        panic!("{heard:?}")
    };
    assert_eq!((flow.link_credit, flow.delivery_count), (Some(0), Some(10)));
    assert_eq!(wire.connection.credit(link), 0);
}

#[test]
fn outcomes_name_every_delivery_of_their_range_that_is_open() {
    let (mut wire, link) = Wire::sending(10);
    for settled in [false, true, false, false] {
        wire.connection.send(link, Bytes::new(), 0, settled, Bytes::new()).unwrap();
    }
    let said = |first, last, settled, state| {
        Performative::Disposition(Disposition {
            role: Role::Receiver,
            first,
            last,
            settled,
            state,
            batchable: false,
        })
    };
    wire.says(3, &said(0, Some(2), false, Some(DeliveryState::Accepted)));
    let outcome =
        |id, settled| Some(Event::Outcome { link, id, state: Some(DeliveryState::Accepted), settled });
    assert_eq!((wire.next(), wire.next(), wire.next()), (outcome(0, false), outcome(2, false), None));
    // A receiver of the second kind waits for us to settle.
    wire.hears();
    wire.connection.settle_sent(link, 0, DeliveryState::Accepted);
    let expected = (Role::Sender, 0, Some(0), true, Some(DeliveryState::Accepted));
    assert_eq!(disposition(&wire.hears()[0]), expected);
    wire.connection.settle_sent(link, 0, DeliveryState::Accepted);
    assert_eq!(wire.hears(), []);
    // The whole range there is.
    wire.says(3, &said(0, Some(u32::MAX), true, Some(DeliveryState::Accepted)));
    assert_eq!((wire.next(), wire.next(), wire.next()), (outcome(2, true), outcome(3, true), None));
    wire.says(3, &said(0, Some(u32::MAX), true, Some(DeliveryState::Accepted)));
    assert_eq!(wire.next(), None);
}

#[test]
fn a_session_ends_with_its_links() {
    let (mut wire, link) = Wire::receiving(1);
    wire.says(3, &Performative::End(None));
    assert_eq!(wire.next(), Some(Event::Ended { channel: 3, links: vec![link], error: None }));
    assert!(matches!(wire.hears()[..], [(3, Performative::End(None), _)]));
    wire.sends(3, &transfer(0, false), b"x");
    assert_eq!(wire.fails(), Fault::NoSession(3));
}

#[test]
fn a_session_that_we_end_hears_nothing_more() {
    let (mut wire, _) = Wire::receiving(1);
    wire.connection.end_session(3, None);
    wire.sends(3, &transfer(0, false), b"x");
    assert_eq!(wire.next(), None);
    wire.says(3, &Performative::End(None));
    assert_eq!(wire.next(), None);
    wire.says(3, &Performative::Begin(begin(1)));
    assert_eq!(wire.next(), None);
}

#[test]
fn sessions_links_and_what_is_open_have_caps() {
    let mut wire = Wire::opened();
    for channel in 4..7 {
        wire.says(channel, &Performative::Begin(begin(1)));
    }
    assert_eq!(wire.next(), None);
    wire.says(9, &Performative::Begin(begin(1)));
    assert_eq!(wire.fails(), Fault::Sessions);

    let mut wire = Wire::opened();
    for handle in 0..8 {
        wire.attaches(handle, Role::Sender);
    }
    wire.says(3, &Performative::Attach(Box::new(attach(8, Role::Sender))));
    assert_eq!(wire.fails(), Fault::Links);

    let (mut wire, _) = Wire::receiving(u32::MAX);
    for id in 0..=u32::try_from(caps::AMQP_UNSETTLED_MAX).unwrap() {
        wire.sends(3, &transfer(id, false), b"");
    }
    assert_eq!(wire.fails(), Fault::Unsettled);
}

#[test]
fn a_fault_is_told_with_the_close() {
    let (mut wire, _) = Wire::receiving(1);
    wire.says(9, &transfer(0, false));
    let error = wire.fails().error();
    wire.connection.close(Some(error.clone()));
    assert_eq!(
        (&*error.condition, wire.hears()),
        ("amqp:not-allowed", vec![(0, Performative::Close(Some(error.clone())), Bytes::new())])
    );
}

#[test]
fn what_stands_where_it_may_not_ends_the_connection() {
    let ends = |performative: Performative| {
        let mut wire = Wire::receiving(1).0;
        wire.says(3, &performative);
        wire.fails()
    };
    assert!(matches!(ends(Performative::Open(Open::named("c".into()))), Fault::OutOfPlace(_)));
    assert!(matches!(ends(Performative::Begin(begin(1))), Fault::OutOfPlace(_)));
    assert_eq!(ends(Performative::Attach(Box::new(attach(5, Role::Sender)))), Fault::HandleInUse(5));
    assert_eq!(ends(Performative::Flow(flow(99, 0, 1))), Fault::NoLink(99));
    assert_eq!(
        ends(Performative::Detach(Detach { handle: 98, closed: true, error: None })),
        Fault::NoLink(98)
    );
    let mut wire = Wire::sending(1).0;
    let Performative::Transfer(sent) = transfer(0, false) else { panic!() };
    wire.says(3, &Performative::Transfer(Transfer { handle: 6, ..sent }));
    assert!(matches!(wire.fails(), Fault::OutOfPlace(_)));
    let mut wire = Wire::new();
    wire.input.extend_from_slice(b"GET / HTTP/1.1");
    assert_eq!(wire.fails().condition(), "amqp:connection:framing-error");
    let mut wire = Wire::new();
    wire.input.extend_from_slice(&Protocol::Amqp.header());
    wire.says(0, &Performative::Begin(begin(1)));
    assert!(matches!(wire.fails(), Fault::OutOfPlace(_)));
}

#[test]
fn a_window_is_opened_again_before_it_is_used_up() {
    let (mut wire, link) = Wire::receiving(u32::MAX);
    let count = caps::AMQP_SESSION_WINDOW * 3;
    let mut widened = 0;
    for id in 0..count {
        let Performative::Transfer(sent) = transfer(id, false) else { panic!() };
        wire.sends(3, &Performative::Transfer(Transfer { settled: Some(true), ..sent }), b"x");
        assert!(matches!(wire.next(), Some(Event::Delivered { link: by, .. }) if by == link));
        widened += wire.hears().len();
    }
    assert!((4..8).contains(&widened), "{widened}");
}

#[test]
fn what_comes_behind_our_close_is_not_looked_at() {
    let (mut wire, _) = Wire::receiving(1);
    wire.connection.close(Some(Error::new("amqp:connection:forced", "It ends.")));
    wire.sends(3, &transfer(0, false), b"x");
    wire.sends(77, &transfer(0, false), b"x");
    assert_eq!(wire.next(), None);
    wire.says(0, &Performative::Close(None));
    assert_eq!((wire.next(), wire.connection.is_closed()), (None, true));
    assert_eq!(wire.hears().len(), 1);
}
