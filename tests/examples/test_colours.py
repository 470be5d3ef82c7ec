"""The stand-in for a vision model sees the colour of every product of one colour, so that a swapped image shows."""

import io

from examples.answers.colours import name_colour
from examples.catalogue.drawing import draw
from examples.catalogue.products import products


def png(product):
    file = io.BytesIO()
    draw(product).save(file, "PNG")
    return file.getvalue()


def test_the_colour_of_every_plain_product_is_named():
    plain = [product for product in products("test", 600) if product.attributes.pattern == "plain"]
    assert len(plain) > 50
    assert {product.id: name_colour(png(product)) for product in plain} == {
        product.id: product.attributes.colour for product in plain
    }
