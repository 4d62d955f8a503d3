"""The known optimum: when to finish, and how to trade until then, on a walk without drift and without forecasts.

``gaps`` says how the gap between running benchmark and last close moves, ``rule`` when to finish, ``plan`` how to
trade until then at the lowest variance and under participation limits.
"""
