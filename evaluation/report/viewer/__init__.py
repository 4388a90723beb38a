"""The interactive viewer: pages that show one case in a browser, without a server.

`niivue` takes the viewer NiiVue out of an installed package, `volumes` writes the images as the
page reads them, `places` lists where to jump, `page` puts the page together, `pages` writes one for
each case of a report, and `view_command` is the command for a single case. The scripts of the page
are the `.js` files.
"""
