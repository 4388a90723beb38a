"""The interactive viewer: pages that show one case in a browser, without a server.

`niivue` takes the viewer NiiVue out of an installed package, `volumes` writes the images in the
form that the page reads, `places` lists the places to jump to, `page` puts a page together, `pages`
writes one page for each case of a report, and `view_command` is the command for a single case. The
scripts of the page are the `.js` files.
"""
