"""One call: what is asked, how its items are prepared, what came of them.

An image on its way to a vector: `JinaClip.embed_images` reads it under the image policy (`request.Reader`) into a
`Request`; `Call` gives it out as a numbered input; a thread of `prepare` opens, fits and encodes it; the backend sends
it or runs the towers, and hands the row to `Call.answer`; `Call.conclude` gives `Results`, and `unwrap` the vectors.
"""
