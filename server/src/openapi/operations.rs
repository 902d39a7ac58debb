//! The calls, in the order in which they are read about.

use super::{Access, Answer, Body, Content, Kind, Operation, Parameter, Place, Verb};
use crate::role::Right;
use protocol::{
    ApproverAnswer, GiveLeave, LeaveResource, NetworkReports, RedeemAnswer, RedeemRequest,
    ReportNetwork, ReviewDetail, ReviewPage, ReviewResource, RunReport, SessionResource, Stats,
    StreamedEvent, SubmitReview, VerifyAnswer, WaitingReviews, WithCount, WithdrawLeave,
    WithdrawnLeave,
};

mod admin;

pub(crate) use admin::*;

const ASKING: Access = Access::Right(Right::Ask);
const LOOKING: Access = Access::Right(Right::SeeOwn);
const AUDITING: Access = Access::Right(Right::Audit);
const ANSWERING: Access = Access::Right(Right::Answer);
const WITHDRAWING: Access = Access::Right(Right::WithdrawLeave);

const REVIEW_ID: Parameter = Parameter {
    name: "id",
    place: Place::Path,
    summary: "The review's id.",
    kind: Kind::Uuid,
};
const STATUSES: &[&str] = &[
    "reviewing",
    "approved",
    "denied",
    "timed_out",
    "aborted",
    "failed",
];

const fn query(name: &'static str, summary: &'static str, kind: Kind) -> Parameter {
    Parameter {
        name,
        place: Place::Query,
        summary,
        kind,
    }
}

const fn header(name: &'static str, summary: &'static str, kind: Kind) -> Parameter {
    Parameter {
        name,
        place: Place::Header,
        summary,
        kind,
    }
}

const fn json(status: u16, summary: &'static str, bodies: &'static [Body]) -> Answer {
    Answer {
        status,
        summary,
        content: Content::Json(bodies),
    }
}

const fn nothing(summary: &'static str) -> Answer {
    Answer {
        status: 204,
        summary,
        content: Content::Nothing,
    }
}

const REVIEW: &[Body] = &[Body::of::<ReviewResource>()];
const SINCE: Parameter = query(
    "since",
    "Opened at this time or later; sums begin with its hour.",
    Kind::Time,
);
const UNTIL: Parameter = query("until", "Opened before this time.", Kind::Time);

/// What a list and an export are narrowed by.
macro_rules! listing {
    ($($more:expr),* $(,)?) => {
        &[
            query("status", "Where the review stands.", Kind::OneOf(STATUSES)),
            query("risk", "The risk that it was judged with.", Kind::Text(512)),
            query("authorization", "The authorization that it was judged with.", Kind::Text(512)),
            query("decided_by", "Who decided.", Kind::Text(512)),
            query("tool", "The kind of action.", Kind::Text(512)),
            query("program", "The last part of a command's first word.", Kind::Text(512)),
            query("user", "The user at the runner's machine.", Kind::Text(512)),
            query("host", "The runner's machine.", Kind::Text(512)),
            query("session", "The session.", Kind::Text(512)),
            query("caller", "Who asked.", Kind::Text(512)),
            query("policy", "The policy's revision.", Kind::Text(512)),
            query("rule", "The rule that decided.", Kind::Text(512)),
            query("failed_step", "The step that failed.", Kind::Text(512)),
            query("q", "1 to 16 words; all must be there.", Kind::Text(512)),
            query("before", "Only reviews before this one: the next page.", Kind::Uuid),
            query("limit", "How many at most; 50 where nothing is said.", Kind::Integer(1, 200)),
            query("count", "Whether to count, up to 10,000.", Kind::OneOf(&["true", "false"])),
            SINCE,
            UNTIL,
            $($more),*
        ]
    };
}

pub(crate) const SUBMIT: Operation = Operation {
    parameters: &[
        header(
            "idempotency-key",
            "The same key with the same body is the same review; with another body it is refused.",
            Kind::Form("^[!-~]{1,128}$"),
        ),
        header(
            "prefer",
            "`wait=N`: answer with the end if it comes within N seconds, 90 at most.",
            Kind::Form("^wait=[0-9]{1,4}$"),
        ),
    ],
    request: Some(Body::of::<SubmitReview>()),
    answers: &[
        json(200, "It has ended.", REVIEW),
        json(202, "It is under review; `Location` says where.", REVIEW),
    ],
    refusals: &[409],
    ..Operation::new(
        Verb::Post,
        "/v1/reviews",
        "submitReview",
        "Asks for a review.",
        ASKING,
    )
};

pub(crate) const LIST: Operation = Operation {
    parameters: listing![],
    answers: &[json(
        200,
        "A page, newest first.",
        &[Body::of::<WithCount<ReviewPage>>()],
    )],
    ..Operation::new(
        Verb::Get,
        "/v1/reviews",
        "listReviews",
        "Lists the reviews that the caller may see.",
        LOOKING,
    )
};

pub(crate) const SHOW: Operation = Operation {
    parameters: &[
        REVIEW_ID,
        query(
            "wait",
            "How many seconds to wait for its end, 90 at most.",
            Kind::Integer(0, 1_000_000),
        ),
        query(
            "view",
            "`full`: everything on record about it.",
            Kind::OneOf(&["full"]),
        ),
    ],
    answers: &[json(
        200,
        "The review.",
        &[Body::of::<ReviewResource>(), Body::of::<ReviewDetail>()],
    )],
    ..Operation::new(
        Verb::Get,
        "/v1/reviews/{id}",
        "showReview",
        "Shows a review, and waits for its end.",
        LOOKING,
    )
};

const LAST_EVENT_ID: Parameter = header(
    "last-event-id",
    "The last event that was received: the stream goes on after it.",
    Kind::Form("^[0-9]{1,18}$"),
);
const EVENTS: Content = Content::Events(Body::of::<StreamedEvent>());

pub(crate) const EVENTS_OF_REVIEW: Operation = Operation {
    parameters: &[REVIEW_ID, LAST_EVENT_ID],
    answers: &[
        Answer {
            status: 200,
            summary: "What happened to it, as server-sent events, until it has ended. A comment at least every 15 seconds.",
            content: EVENTS,
        },
        nothing("It has ended, and all is told."),
    ],
    ..Operation::new(
        Verb::Get,
        "/v1/reviews/{id}/events",
        "streamReview",
        "Streams what happens to a review.",
        LOOKING,
    )
};

pub(crate) const EVENTS_OF_ALL: Operation = Operation {
    parameters: &[LAST_EVENT_ID],
    answers: &[Answer {
        status: 200,
        summary: "Everything that the caller may see, as server-sent events, from now on or after `Last-Event-ID`.",
        content: EVENTS,
    }],
    ..Operation::new(
        Verb::Get,
        "/v1/events",
        "streamEvents",
        "Streams what happens to all reviews.",
        LOOKING,
    )
};

pub(crate) const ABORT: Operation = Operation {
    parameters: &[REVIEW_ID],
    answers: &[json(200, "The review as it stands.", REVIEW)],
    refusals: &[409],
    ..Operation::new(
        Verb::Post,
        "/v1/reviews/{id}/abort",
        "abortReview",
        "Takes a question back.",
        ASKING,
    )
};

pub(crate) const REDEEM: Operation = Operation {
    parameters: &[
        REVIEW_ID,
        header(
            "prefer",
            "`host-scope`: tell in the receipt how long an approver's yes about a host holds; without it, that is once.",
            Kind::Form("^host-scope$"),
        ),
    ],
    request: Some(Body::of::<RedeemRequest>()),
    answers: &[json(
        200,
        "It is spent; this is the receipt.",
        &[Body::of::<RedeemAnswer>()],
    )],
    refusals: &[409],
    ..Operation::new(
        Verb::Post,
        "/v1/reviews/{id}/redeem",
        "redeemReview",
        "Spends an approval, once.",
        ASKING,
    )
};

pub(crate) const RAN: Operation = Operation {
    parameters: &[REVIEW_ID],
    request: Some(Body::of::<RunReport>()),
    answers: &[nothing("It is on record.")],
    refusals: &[409],
    ..Operation::new(
        Verb::Post,
        "/v1/reviews/{id}/ran",
        "reportRun",
        "Tells how the run of a spent approval ended.",
        ASKING,
    )
};

pub(crate) const REPORT_NETWORK: Operation = Operation {
    request: Some(Body::of::<ReportNetwork>()),
    answers: &[nothing("It is on record.")],
    refusals: &[409],
    ..Operation::new(
        Verb::Post,
        "/v1/network-reports",
        "reportNetwork",
        "Tells what the door decided while a command ran.",
        ASKING,
    )
};

pub(crate) const LIST_NETWORK: Operation = Operation {
    parameters: &[
        query("host", "Only reports about this host.", Kind::Text(512)),
        query("session", "The session.", Kind::Text(512)),
        query("caller", "Who told it.", Kind::Text(512)),
        query(
            "refused",
            "Only reports of something refused.",
            Kind::OneOf(&["true", "false"]),
        ),
        query(
            "before",
            "Only lines of the record before this one: the next page.",
            Kind::Integer(1, i64::MAX),
        ),
        query(
            "limit",
            "How many at most; 50 where nothing is said.",
            Kind::Integer(1, 200),
        ),
    ],
    answers: &[json(
        200,
        "The reports, newest first.",
        &[Body::of::<NetworkReports>()],
    )],
    ..Operation::new(
        Verb::Get,
        "/v1/network-reports",
        "listNetworkReports",
        "Lists what the door decided while commands ran.",
        LOOKING,
    )
};

pub(crate) const ANSWER: Operation = Operation {
    parameters: &[REVIEW_ID],
    request: Some(Body::of::<ApproverAnswer>()),
    answers: &[json(200, "The review as it stands.", REVIEW)],
    refusals: &[409],
    ..Operation::new(
        Verb::Post,
        "/v1/reviews/{id}/answer",
        "answerReview",
        "Answers a review that waits for a person.",
        ANSWERING,
    )
};

pub(crate) const GIVE_LEAVE: Operation = Operation {
    parameters: &[REVIEW_ID],
    request: Some(Body::of::<GiveLeave>()),
    answers: &[json(
        201,
        "The leave, signed.",
        &[Body::of::<LeaveResource>()],
    )],
    refusals: &[409],
    ..Operation::new(
        Verb::Post,
        "/v1/reviews/{id}/leave",
        "giveLeave",
        "Gives leave, once, for exactly an action that was denied.",
        ANSWERING,
    )
};

pub(crate) const WITHDRAW_LEAVE: Operation = Operation {
    parameters: &[REVIEW_ID],
    request: Some(Body::of::<WithdrawLeave>()),
    answers: &[json(
        200,
        "Who took it back, and when.",
        &[Body::of::<WithdrawnLeave>()],
    )],
    refusals: &[409],
    ..Operation::new(
        Verb::Post,
        "/v1/reviews/{id}/leave/withdraw",
        "withdrawLeave",
        "Takes back leave that was not used.",
        WITHDRAWING,
    )
};

pub(crate) const SESSION: Operation = Operation {
    parameters: &[Parameter {
        name: "id",
        place: Place::Path,
        summary: "The session's id.",
        kind: Kind::Text(512),
    }],
    answers: &[json(
        200,
        "The session and its turns.",
        &[Body::of::<SessionResource>()],
    )],
    ..Operation::new(
        Verb::Get,
        "/v1/sessions/{id}",
        "showSession",
        "Shows where the turns of a session stand.",
        LOOKING,
    )
};

/// The same at the terminal of the embedded service.
pub(crate) const ANSWER_HERE: Operation = Operation {
    request: Some(Body::of::<protocol::Answer>()),
    access: ASKING,
    ..ANSWER
};

pub(crate) const WAITING: Operation = Operation {
    answers: &[json(
        200,
        "Oldest first, at most 200.",
        &[Body::of::<WaitingReviews>()],
    )],
    ..Operation::new(
        Verb::Get,
        "/v1/waiting",
        "listWaiting",
        "Lists what waits for a person.",
        ANSWERING,
    )
};

pub(crate) const STATS: Operation = Operation {
    parameters: &[SINCE, UNTIL],
    answers: &[json(200, "The sums.", &[Body::of::<Stats>()])],
    ..Operation::new(
        Verb::Get,
        "/v1/stats",
        "sumUp",
        "Sums up the reviews that ended.",
        AUDITING,
    )
};

pub(crate) const EXPORT: Operation = Operation {
    parameters: listing![query(
        "format",
        "The shape of a line; `jsonl` where nothing is said.",
        Kind::OneOf(&["jsonl", "csv", "ocsf", "opa"]),
    )],
    answers: &[Answer {
        status: 200,
        summary: "A line a review, newest first. A connection that is cut means that it is not whole.",
        content: Content::Text(&["application/jsonl", "text/csv"]),
    }],
    ..Operation::new(
        Verb::Get,
        "/v1/export",
        "exportReviews",
        "Streams reviews for other programs.",
        AUDITING,
    )
};

pub(crate) const VERIFY: Operation = Operation {
    answers: &[json(
        200,
        "Whether it holds.",
        &[Body::of::<VerifyAnswer>()],
    )],
    ..Operation::new(
        Verb::Get,
        "/v1/verify",
        "verifyRecord",
        "Holds the tenant's record against itself.",
        AUDITING,
    )
};
