"""The colours of all pictures; imports no matplotlib."""

# Okabe & Ito's palette ("Color universal design", 2008), distinguishable with every kind of colour vision.
VERMILION, GREEN, PURPLE, ORANGE, GREY, BLUE, SKY = (
    "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#595959", "#0072B2", "#56B4E9"
)  # fmt: skip
COLORS = (VERMILION, GREEN, PURPLE, ORANGE, GREY, BLUE, SKY)  # of config.EMOTIONS, in every picture
# Evidence for a class and against it: colours of no emotion, one darker and one lighter than the grey of a face under a
# map, so that the sign can be seen in grey print and with every kind of colour vision.
DARK_RED, TURQUOISE = "#80001a", "#9effed"
# Measures and splits, which are no emotion: three steps of violet from dark to light, distinct in grey print too.
DARK, MIDDLE, LIGHT = "#3b2a7e", "#8575c9", "#c9c0ec"
# Runs beside one another, which are no emotion either: Tol, "Colour schemes", 2021, the scheme muted.
RUNS = ("#332288", "#44AA99", "#882255", "#999933", "#AA4499", "#117733", "#DDCC77")
INK, QUIET = "#1d2129", "#767676"  # text, and text of less weight
