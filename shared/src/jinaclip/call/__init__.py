"""One call: what is asked, how its items are prepared, what came of them.

An image on its way to a vector: `JinaClip.embed_images` takes it as it is into a `request.Draft`, and reads that under
the image policy into a `Request`; `Call` gives it out as a numbered input; a thread of the `pool` opens and fits it by
the backend's `prepare.Recipe`; the backend sends it or runs the towers, and hands the row to `Call.answer`;
`Call.conclude` gives `Results`, and `unwrap` the vectors.
"""
