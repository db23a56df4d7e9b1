/* code_pages: code of a library that was used once, and is not to count as this process's memory. */
#ifndef FASTUN_SESSION_CODE_PAGES_H
#define FASTUN_SESSION_CODE_PAGES_H

/* Unmaps the pages of the library's code that has this address, until they are executed again: then
 * the kernel finds them in its cache, or in the file. Nothing is lost: code is never written to, and
 * a library that does so while it is loaded (DT_TEXTREL) is left alone. */
void code_pages_drop(const void *address);

#endif
