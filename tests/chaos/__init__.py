"""
Kills, pauses and cuts off real servers at random, and checks what they did.
"""
