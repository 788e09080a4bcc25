//! The list of a batch's events, made when somebody asks for one.
//!
//! A source that reads many plain lines on end knows how many there are and that each ends with
//! one LF. What is only passed on needs no more than that: the list would cost more than what is
//! done with it. Whoever looks at an event, or changes one, has it made.

use std::cell::OnceCell;
use std::ops::{Deref, DerefMut};

use bytes::Bytes;

use super::{Event, Span};

/// Events in order of arrival. To read or to change them is to have the list made; how many
/// there are is known without.
#[derive(Clone, Debug, Default)]
pub struct Events {
    /// What the list is made of, until somebody changes it.
    uncut: Option<Uncut>,
    list: OnceCell<Vec<Event>>,
}

/// Lines that lie side by side in a batch, each of one byte at least and ended by one LF.
#[derive(Clone, Debug)]
struct Uncut {
    bytes: Bytes,
    span: Span,
    count: usize,
}

impl Events {
    /// The lines at `span` of `bytes`, the LF of the last included; there are `count`, none of
    /// which is empty.
    pub fn uncut(bytes: Bytes, span: Span, count: usize) -> Events {
        debug_assert!(span.of(&bytes).ends_with(b"\n"));
        Events {
            uncut: Some(Uncut { bytes, span, count }),
            list: OnceCell::new(),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match &self.uncut {
            Some(uncut) => uncut.count,
            None => self.list().len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the lines are, the LF of each included, when nothing but such lines is in it.
    pub fn lines(&self) -> Option<Span> {
        self.uncut.as_ref().map(|uncut| uncut.span)
    }

    /// The sum of their original lengths, in bytes.
    pub(super) fn raw_bytes(&self) -> usize {
        match &self.uncut {
            Some(uncut) => uncut.span.len() - uncut.count,
            None => self.list().iter().map(|event| event.raw().len()).sum(),
        }
    }

    fn list(&self) -> &Vec<Event> {
        self.list.get_or_init(|| match &self.uncut {
            Some(uncut) => uncut.cut(),
            None => Vec::new(),
        })
    }
}

impl Uncut {
    fn cut(&self) -> Vec<Event> {
        let mut events = Vec::with_capacity(self.count);
        let mut start = self.span.start;
        for at in memchr::memchr_iter(b'\n', self.span.of(&self.bytes)) {
            let end = self.span.start + at as u32;
            events.push(Event::Raw(Span { start, end }));
            start = end + 1;
        }
        debug_assert_eq!(events.len(), self.count);
        events
    }
}

impl Deref for Events {
    type Target = Vec<Event>;

    fn deref(&self) -> &Vec<Event> {
        self.list()
    }
}

impl DerefMut for Events {
    fn deref_mut(&mut self) -> &mut Vec<Event> {
        self.list();
        self.uncut = None;
        self.list.get_mut().expect("it was made above")
    }
}

impl From<Vec<Event>> for Events {
    fn from(list: Vec<Event>) -> Events {
        Events {
            uncut: None,
            list: OnceCell::from(list),
        }
    }
}

impl FromIterator<Event> for Events {
    fn from_iter<I: IntoIterator<Item = Event>>(events: I) -> Events {
        Events::from(Vec::from_iter(events))
    }
}

impl IntoIterator for Events {
    type Item = Event;
    type IntoIter = std::vec::IntoIter<Event>;

    fn into_iter(mut self) -> Self::IntoIter {
        std::mem::take(&mut *self).into_iter()
    }
}

impl<'a> IntoIterator for &'a Events {
    type Item = &'a Event;
    type IntoIter = std::slice::Iter<'a, Event>;

    fn into_iter(self) -> Self::IntoIter {
        self.list().iter()
    }
}

impl<'a> IntoIterator for &'a mut Events {
    type Item = &'a mut Event;
    type IntoIter = std::slice::IterMut<'a, Event>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Events {
        let bytes = Bytes::from_static(b"rest\none\ntwo\nthree\nhalf");
        Events::uncut(bytes, Span::new(5, 19), 3)
    }

    fn spans(events: &[Event]) -> Vec<(u32, u32)> {
        let span = |event: &Event| (event.raw().start, event.raw().end);
        events.iter().map(span).collect()
    }

    #[test]
    fn lines_are_cut_apart_when_somebody_asks() {
        let events = three();
        assert_eq!((events.len(), events.raw_bytes()), (3, 11));
        assert_eq!(events.lines(), Some(Span::new(5, 19)));
        assert!(events.list.get().is_none(), "nobody has asked");
        assert_eq!(spans(&events), [(5, 8), (9, 12), (13, 18)]);
        assert_eq!(
            events.lines(),
            Some(Span::new(5, 19)),
            "they are still that"
        );
    }

    #[test]
    fn whoever_changes_the_list_has_a_list_like_any_other() {
        let mut events = three();
        events.remove(1);
        assert_eq!((events.len(), events.raw_bytes()), (2, 8));
        assert_eq!(events.lines(), None);
        assert_eq!(spans(&events), [(5, 8), (13, 18)]);
        let taken: Vec<Event> = std::mem::take(&mut events).into_iter().collect();
        assert_eq!(spans(&taken), [(5, 8), (13, 18)]);
        assert!(events.is_empty() && Events::from(taken).len() == 2);
    }
}
