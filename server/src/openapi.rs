//! What the API is, as data: one [`Operation`] for each call, from which both the router and the OpenAPI document are made.
//!
//! Apart from the handlers, because a reader, a generator of clients and the test that plays a hostile client want to
//! know the calls without running them. Invariant: a route that is not described cannot be added ([`Routes::add`]).

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodFilter, on};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::error::ApiError;
use crate::role::Right;

mod document;
pub(crate) mod operations;

pub(crate) use document::document;

/// One call of the API.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operation {
    pub(crate) verb: Verb,
    /// With `{id}` where one stands.
    pub(crate) path: &'static str,
    /// Its name for generators of clients.
    pub(crate) id: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) access: Access,
    pub(crate) parameters: &'static [Parameter],
    pub(crate) request: Option<Body>,
    pub(crate) answers: &'static [Answer],
    /// The statuses of its own refusals, beside those that follow from its shape.
    pub(crate) refusals: &'static [u16],
}

/// The method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Post,
    Delete,
}

/// Who may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody, without a token.
    Everybody,
    /// Whoever has a role that gives this right.
    Right(Right),
}

/// A parameter of the path, the query or a header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) place: Place,
    pub(crate) summary: &'static str,
    pub(crate) kind: Kind,
}

/// Where a parameter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Path,
    Query,
    Header,
}

/// What a parameter's value may be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// 1 to so many bytes.
    Text(usize),
    /// A text of a form.
    Form(&'static str),
    /// From, to.
    Integer(i64, i64),
    OneOf(&'static [&'static str]),
    /// RFC 3339.
    Time,
    Uuid,
}

/// A JSON body, by its schema.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Body(fn(&mut SchemaGenerator) -> Schema);

impl Body {
    /// The body that `T` is read from or written as.
    pub(crate) const fn of<T: JsonSchema>() -> Self {
        Self(schema_of::<T>)
    }
}

fn schema_of<T: JsonSchema>(schemas: &mut SchemaGenerator) -> Schema {
    schemas.subschema_for::<T>()
}

/// An answer that is no refusal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) summary: &'static str,
    pub(crate) content: Content,
}

/// What stands in an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Content {
    Nothing,
    Json(&'static [Body]),
    /// Text of these media types.
    Text(&'static [&'static str]),
    /// Server-sent events; the data of each is JSON of this schema.
    Events(Body),
}

impl Operation {
    const fn new(
        verb: Verb,
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        access: Access,
    ) -> Self {
        Self {
            verb,
            path,
            id,
            summary,
            access,
            parameters: &[],
            request: None,
            answers: &[],
            refusals: &[],
        }
    }
}

/// Where routes are noted down, or not.
pub(crate) trait Notes: Default {
    /// Notes an operation. It is made here or not at all, so that who notes nothing holds no description.
    fn note(&mut self, describe: impl FnOnce() -> Operation);
}

impl Notes for () {
    fn note(&mut self, _: impl FnOnce() -> Operation) {}
}

impl Notes for Vec<Operation> {
    fn note(&mut self, describe: impl FnOnce() -> Operation) {
        self.push(describe());
    }
}

/// Routes, and what is noted about them.
#[derive(Debug)]
pub(crate) struct Routes<S, N> {
    router: Router<S>,
    notes: N,
}

impl<S: Clone + Send + Sync + 'static, N: Notes> Routes<S, N> {
    pub(crate) fn new() -> Self {
        Self {
            router: Router::new(),
            notes: N::default(),
        }
    }

    /// Has the call at `place` answered by `handler`. `add!` spells it.
    pub(crate) fn add<T: 'static>(
        mut self,
        (verb, path): (Verb, &'static str),
        describe: impl FnOnce() -> Operation,
        handler: impl Handler<T, S>,
    ) -> Self {
        let method = match verb {
            Verb::Get => MethodFilter::GET,
            Verb::Post => MethodFilter::POST,
            Verb::Delete => MethodFilter::DELETE,
        };
        self.router = self.router.route(path, on(method, handler));
        self.notes.note(describe);
        self
    }

    /// What was noted.
    pub(crate) fn into_notes(self) -> N {
        self.notes
    }

    /// The routes, with `state`; other methods on their paths are refused.
    pub(crate) fn with_state(self, state: S) -> Router {
        self.router
            .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
            .with_state(state)
    }
}

/// Adds operations of [`operations`] and what answers each to routes.
macro_rules! add {
    ($routes:expr, $($operation:ident => $handler:path),* $(,)?) => {
        $routes$(.add(
            const { ($crate::openapi::operations::$operation.verb, $crate::openapi::operations::$operation.path) },
            || $crate::openapi::operations::$operation,
            $handler,
        ))*
    };
}
pub(crate) use add;
