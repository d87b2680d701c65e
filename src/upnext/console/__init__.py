"""The pages a person opens: what is recommended and why, how well, and the levers to steer it.

A process of its own, and a plain client of a server's two addresses, so that it cannot slow
requests down. Pages are whole HTML with all their state in the URL; a small script asks for a page
again to keep it fresh. Nothing is loaded from elsewhere, and no script or style stands in a page.
"""
