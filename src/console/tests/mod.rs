//! The pages in one process: requests of a browser in, pages out.

mod texts;
