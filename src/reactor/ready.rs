//! The ready list: sources that have something to do without the poller saying so again.
//!
//! An edge is reported once. Whoever stops before `WouldBlock`, or resumes after the edge came
//! and went, is put here; while the list is not empty the poll does not wait. A source is listed
//! at most once (its slot remembers), so the list is never longer than the number of sources.
//! A turn serves as many entries as there were when it began, in order: first in, first out.

use std::collections::VecDeque;

use super::token::Token;

/// Tokens to be dispatched, oldest first.
#[derive(Default)]
pub(crate) struct ReadyList {
    tokens: VecDeque<Token>,
}

impl ReadyList {
    pub(crate) fn push(&mut self, token: Token) {
        self.tokens.push_back(token);
    }

    pub(crate) fn pop(&mut self) -> Option<Token> {
        self.tokens.pop_front()
    }

    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.tokens.clear();
    }
}
