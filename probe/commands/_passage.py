"""The texts that `probe show` has at hand; all are in the public domain."""

TEXT = (
    "Elizabeth, as they drove along, watched for the first appearance of Pemberley Woods with "
    "some perturbation; and when at length they turned in at the lodge, her spirits were in a high "
    "flutter.\n\n"
    "The park was very large, and contained great variety of ground. They entered it in one of its "
    "lowest points, and drove for some time through a beautiful wood, stretching over a wide "
    "extent.\n\n"
    "Elizabeth's mind was too full for conversation, but she saw and admired every remarkable spot "
    "and point of view. They gradually ascended for half a mile, and then found themselves at the "
    "top of a considerable eminence, where the wood ceased, and the eye was instantly caught by "
    "Pemberley House, situated on the opposite side of a valley, into which the road with some "
    "abruptness wound. It was a large, handsome, stone building, standing well on rising ground, "
    "and backed by a ridge of high woody hills; and in front, a stream of some natural importance "
    "was swelled into greater, but without any artificial appearance."
)
"""Jane Austen, Pride and Prejudice (1813), chapter 43."""

OLDER = (
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, "
    "must be in want of a wife.\n\n"
    "However little known the feelings or views of such a man may be on his first entering a "
    "neighbourhood, this truth is so well fixed in the minds of the surrounding families, that he "
    "is considered the rightful property of some one or other of their daughters.\n\n"
    '"My dear Mr. Bennet," said his lady to him one day, "have you heard that Netherfield Park is '
    'let at last?"\n\n'
    "Mr. Bennet replied that he had not.\n\n"
    '"But it is," returned she; "for Mrs. Long has just been here, and she told me all about it."'
    "\n\n"
    "Mr. Bennet made no answer.\n\n"
    '"Do you not want to know who has taken it?" cried his wife impatiently.\n\n'
    '"You want to tell me, and I have no objection to hearing it."\n\n'
    "This was invitation enough.\n\n"
    '"Why, my dear, you must know, Mrs. Long says that Netherfield is taken by a young man of '
    "large fortune from the north of England; that he came down on Monday in a chaise and four to "
    "see the place, and was so much delighted with it that he agreed with Mr. Morris immediately; "
    "that he is to take possession before Michaelmas, and some of his servants are to be in the "
    'house by the end of next week."'
)
"""The same book's opening: what stands before `TEXT` in its document."""

OTHER = (
    "Call me Ishmael. Some years ago, never mind how long precisely, having little or no money in "
    "my purse, and nothing particular to interest me on shore, I thought I would sail about a "
    "little and see the watery part of the world. It is a way I have of driving off the spleen and "
    "regulating the circulation. Whenever I find myself growing grim about the mouth; whenever it "
    "is a damp, drizzly November in my soul; whenever I find myself involuntarily pausing before "
    "coffin warehouses, and bringing up the rear of every funeral I meet; and especially whenever "
    "my hypos get such an upper hand of me, that it requires a strong moral principle to prevent "
    "me from deliberately stepping into the street, and methodically knocking people's hats off; "
    "then, I account it high time to get to sea as soon as I can. This is my substitute for pistol "
    "and ball. With a philosophical flourish Cato throws himself upon his sword; I quietly take to "
    "the ship."
)
"""Herman Melville, Moby-Dick (1851), the opening: another document."""
