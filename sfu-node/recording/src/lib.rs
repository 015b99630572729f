//! Recordings: RTP packets of one stream to Ogg and WebM, without decoding.
