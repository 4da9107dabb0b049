"""How a model is attacked: a plan of waves, a ledger of what is known, a batch on the device.

``call`` is the way in. It looks at the clean inputs, lets ``loop`` run one wave after the other,
and judges what they found. ``plan`` says what runs, ``ledger`` what is known of each row, ``batch``
who sits where, ``shapes`` how large batches are, ``programs`` what is compiled, ``problem`` what an
attack sees.
"""
