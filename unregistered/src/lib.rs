//! Stands where the rules reader's language (`starlark`) expects the crate `inventory`: the same four names, and no
//! registration.
//!
//! The language registers each of its types before `main`, so that it can write its values to a disk and read them back.
//! Rules files are read and forgotten, and a runner starts for every command: four hundred functions before `main`, and the
//! code that only they name, cost more than the walls. Invariant: nothing is ever registered, so every list is empty; what
//! would need one (writing the language's values out) finds no entry and answers with its own error.
#![no_std]
#![forbid(unsafe_code)]

mod kind {
    use core::convert::Infallible;
    use core::iter::Empty;
    use core::marker::PhantomData;
    use core::ops::Deref;

    /// All that was registered of one type: nothing.
    #[expect(
        non_camel_case_types,
        reason = "used like a function, under the name that the language knows"
    )]
    #[derive(Debug)]
    pub enum iter<T> {
        /// The empty list.
        iter,
        /// Never made; it holds the type.
        Of(Infallible, PhantomData<fn() -> T>),
    }

    impl<T: 'static> IntoIterator for iter<T> {
        type Item = &'static T;
        type IntoIter = Empty<&'static T>;

        fn into_iter(self) -> Self::IntoIter {
            core::iter::empty()
        }
    }

    impl<T: 'static> Deref for iter<T> {
        type Target = fn() -> Empty<&'static T>;

        fn deref(&self) -> &Self::Target {
            &(core::iter::empty as fn() -> Empty<&'static T>)
        }
    }
}

mod value {
    pub use crate::kind::iter::iter;
}

// The type by name, which hides the variant's own type; the value by the star.
pub use value::*;
/// All that was registered of one type: nothing.
#[expect(
    non_camel_case_types,
    reason = "used like a function, under the name that the language knows"
)]
pub type iter<T> = kind::iter<T>;

/// Marks a type of which things could be registered.
#[macro_export]
macro_rules! collect {
    ($ty:ty) => {};
}

/// Registers nothing.
#[macro_export]
macro_rules! submit {
    ($($entry:tt)*) => {};
}
