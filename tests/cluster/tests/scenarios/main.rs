//! What a deployment's clients go through when parts of it fail: each scenario is a test, under the load of 20 rooms of 5 members
//! with media in 5 rooms, with an account of every notification and of every gap in media.

mod ordinary;
