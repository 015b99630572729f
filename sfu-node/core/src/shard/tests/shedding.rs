//! What is left out under too much load, and how those affected see it.

use super::*;
