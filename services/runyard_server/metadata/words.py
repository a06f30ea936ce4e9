"""Words that run names are made of: adjectives of weather, light, temper and shape; nouns of nature. None of them judges."""

from __future__ import annotations

from typing import Final

_ADJECTIVES_TEXT: Final = """
able active agile airy alert amber ample ancient apt aqua arctic ardent astral autumn avid awake
azure balanced balmy basic bold boreal brave breezy brief bright brisk bronze busy calm candid
careful casual celestial central cheerful chilly civic classic clean clear clever cloudy coastal
cobalt comfy compact cool copper coral cordial cosmic cosy crimson crisp curious daily dainty
dandy dapper daring dashing dauntless dazzling decent deep deft devoted distant dreamy driven dry
dusky dusty eager early earnest earthy easy eastern elated electric elegant eminent emerald
endless epic equal even evergreen exact expert fabled faithful fancy fast feathery fertile festive
fiery fine firm flowing fluent fond fragrant frank free fresh friendly frosty full gallant
generous gentle genuine giant gifted glad gleaming global glossy glowing golden good graceful
grand grateful great green happy hardy harmonic hazel hearty helpful hidden high hollow honest
hopeful humble icy ideal indigo inland ivory jaunty jolly jovial joyful keen kind large lasting
lavender leafy lemon level light likely lilac limber lively logical lofty long loyal lucid lucky
lunar lush magic magnetic major mellow merry mighty mild mindful minty misty modern modest mossy
musical native neat nimble noble northern novel oaken olive open orange orchid organic outer
pacific pastel patient peaceful peachy pearly placid playful pleasant plucky poetic polar polished
polite prime proud pure quick quiet radiant rainy rapid rare ready regal restful rich ripe rising
robust rocky rosy royal ruby rustic sandy sapphire scarlet scenic serene shady sharp shining
silent silken silver simple sincere sleek smart smooth snowy soaring social soft solar solid sonic
southern sparkling spirited splendid spring sprightly stable starry steady stellar stormy strong
sturdy subtle summer sunny super sure swift tall tender thankful thorough thoughtful tidal tidy
timely tranquil true trusty twilight upbeat upright valiant vast velvet verdant vibrant vital
vivid warm wandering watchful wavy western whole wild willing winter wise wispy witty wonderful
woven young zealous zesty
"""
_NOUNS_TEXT: Final = """
acorn alder algae alpaca anchor apple apricot arbor aspen aster atoll aurora badger bamboo basin
bay beach beacon beaver bee beech berry birch bird bison blossom bluff bog bonfire boulder branch
breeze bridge brook bud buffalo butterfly cabin cactus canary canoe canopy canyon cape caribou
cascade castle cave cedar cherry chestnut cicada cinder cliff cloud clover coast cocoon comet
compass condor coral cosmos cove coyote crane crater creek crescent crest crocus crystal current
cypress daffodil dahlia daisy dawn deer delta desert dew dolphin dove dragonfly dream drift dune
dusk eagle earth echo eclipse elk elm ember equinox estuary falcon fern field finch fir fire
firefly fjord flame flower fog forest fountain fox frog frost galaxy garden gazelle geyser glacier
glade glen gorge grain granite grass grove gull harbor hare harvest haven hawk haze hazel heath
heather hedge heron hill hollow honey horizon ibis iceberg iris island ivy jackal jasmine jay
jungle juniper kelp kestrel kingfisher kite koala lagoon lake lantern larch lark laurel lava leaf
ledge lemur lichen light lilac lily linden lion llama locust lotus lynx magnolia mango maple
marigold marsh marten meadow mesa meteor mirage mist monarch moon moor moose morning moss mountain
mulberry nebula nectar nest newt night nova oak oasis ocean olive orchard orchid oriole osprey
otter owl palm panda panther papaya path peak pearl pebble pelican peony petal pheasant pine
pinnacle planet plateau plum pond poplar poppy prairie puffin quail quartz rain rainbow raven reed
reef ridge river robin rock rose rowan sage salmon sand savanna sea seal seashell season sequoia
shadow shore sky smoke snow snowflake sound sparrow spring spruce squirrel star starfish stone
storm stream summit sun sunrise sunset surf swan sycamore tern terrace thicket thistle thunder
tide timber trail tree tulip tundra turtle twig valley vine violet vista volcano voyage walnut
wave waterfall whale wheat willow wind wolf wood wren yew zebra zenith zephyr zinnia
"""
ADJECTIVES: Final = tuple(_ADJECTIVES_TEXT.split())
NOUNS: Final = tuple(_NOUNS_TEXT.split())


def make_display_name(number: int, random_bits: int) -> str:
    """Returns adjective-noun-N for the N-th run of a project; `random_bits` (32 or more) choose the words."""
    adjective = ADJECTIVES[random_bits % len(ADJECTIVES)]
    noun = NOUNS[random_bits // len(ADJECTIVES) % len(NOUNS)]
    return f"{adjective}-{noun}-{number}"
